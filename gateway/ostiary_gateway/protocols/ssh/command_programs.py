"""Programs and variables by what they can do: names that a command line is judged by."""

from __future__ import annotations

import re

SHELLS = frozenset(
    ("sh", "bash", "dash", "zsh", "ksh", "ksh93", "mksh", "ash", "rbash", "rksh", "rzsh", "pdksh", "yash", "posh")
)
"""Shells whose language is read here."""
FOREIGN_SHELLS = frozenset(
    ("csh", "tcsh", "fish", "elvish", "nu", "xonsh", "rc", "es", "ion", "pwsh", "powershell", "sash")
)
INTERPRETER = re.compile(
    r"(?:python|pypy|perl|ruby|jruby|node|nodejs|php|php-cgi|lua|luajit|tclsh|wish|expect|osascript|Rscript|R|julia|"
    r"ghci|runghc|irb|guile|racket|groovy|scala|kotlin|jshell|deno|bun|java|gdb|lldb|dc|m4|gnuplot|octave|erl|"
    r"elixir|iex|ocaml|swipl|sbcl|clisp|emacs|ipython|ts-node|tsx|gjs|qjs|bpftrace|dtrace|stap)[0-9]*(?:\.[0-9]+)*\Z"
)
"""Programs that run code in another language."""
HARMLESS_ALONE = frozenset(("--version", "-V", "-version", "--help", "-h"))
"""With one of these as the only argument an interpreter or shell runs nothing."""

_RUNS_OTHERS = {
    "can run commands that its arguments do not show": """
        vi vim nvim vimdiff view rvim rview ex ed red nano pico joe mcedit less more most pg man info mc
        ranger nnn lynx w3m links elinks ftp lftp telnet mail mailx mutt tmux screen byobu dialog visudo vipw
        vigr sudoedit crash tig cu minicom tin slsh zellij
    """,
    "runs what files say": """
        make gmake bmake cmake ninja meson rake ant mvn gradle gradlew bazel npm npx pnpm yarn cargo go tox
        nox just task scons invoke fab ansible ansible-playbook ansible-console puppet chef-client salt
        salt-call salt-ssh terraform tofu vagrant packer run-parts logrotate anacron cron crond monit
        supervisord runsvdir debconf-apt-progress needrestart apport-cli genisoimage sshd
    """,
    "runs commands later that its arguments do not show": """
        at batch atrun
    """,
    "runs code in another language": """
        psql mysql mariadb sqlite3 sqlite mongo mongosh sqlcmd sqlplus clickhouse-client
    """,
    "runs other programs in ways that are not looked into": """
        pssh parallel-ssh pdsh clush mosh rsh rlogin sshpass autossh expect unbuffer strace ltrace perf
        valgrind rr ld.so qemu wine bwrap firejail proot fakeroot fakechroot schroot debootstrap lxc
        lxc-attach lxc-execute incus machinectl virsh systemd-nspawn runc crun ctr flatpak snap nix nix-shell
        guix toolbox distrobox start-stop-daemon daemon daemonize supervisorctl s6-setuidgid runsv svlogd
        cpulimit entr inotifywait incrond watchman inotifyd fswatch tclsh dbus-run-session dbus-send busctl
        gdbus xterm gnome-terminal konsole xvfb-run startx xinit openvt agetty getty login newgrp capsh pkexec
        run0 socat rpm cowsay cobc gcore ssh-agent ssh-copy-id gcc cc g++ clang ld as install-info
        update-alternatives hping3 nmap tshark dumpcap msfconsole slurm srun sbatch mpirun mpiexec torsocks
        torify proxychains proxychains4 tsocks catchsegv softlimit envdir envuidgid setuidgid chpst gosu
        su-exec tini dumb-init catatonit with-contenv aa-exec sandbox setarch setpriv prlimit cgexec sg runcon
        newrole sesu seunshare rlwrap faketime trickle ifne pee lckdo mispipe zrun vidir sem xe rargs
        hyperfine logsave dbus-launch gpg-agent aoss tsp nq multitail pipexec fzf bat run-mailcap
        see xdg-open dpkg-architecture sdiff zless zmore xzless xzmore bzless bzmore lesspipe most openvpn
        pppd dhclient aria2c ctest inetd tcpsvd udpsvd telnetd xinetd debsums sshfs ldd jexec dtach abduco
        reptyr retty udevadm on_ac_power coreutils svn hg bzr cvs darcs mysqlsh mutt neomutt alpine pine elm
        systemd-inhibit systemd-cat systemd-socket-activate bubblewrap buildah singularity apptainer
        charliecloud slirp4netns rootlesskit setlock pgrphack fghack multilog argv0 tai64nlocal s6-envdir
        s6-setlock s6-svscan execlineb foreground background redirfd fdmove cgclassify schedtool nsjail
        minijail0 sudo_logsrvd gdbserver heaptrack uftrace
    """,
}
RUNS_OTHERS = {program: reason for reason, programs in _RUNS_OTHERS.items() for program in programs.split()}
"""Programs that are opaque with any arguments, and why."""

_OTHER_SHELLS_WORDS = """
    - ]] alarm always autoload begin bindkey breaksw comparguments default emulate end enum float foreach
    functions global goto hist inlib integer limit nameref nocorrect noglob onintr print r redirect repeat
    sched setenv setopt switch unsetopt vared zargs zcompile zle zmodload zmv zpty zselect zsocket zstyle ztcp
"""
OTHER_SHELLS_WORDS = frozenset(_OTHER_SHELLS_WORDS.split())
"""What other shells than Bash take for a word of their own."""

OPAQUE_BUILTINS = {
    "source": "runs what a file says",
    ".": "runs what a file says",
    "let": "arithmetic with variables, whose values may hold commands",
    "bind": "binds commands to keys",
    "compgen": "expands its arguments again",
    "complete": "keeps commands for later",
    "compopt": "keeps commands for later",
    "enable": "changes what a name runs",
    "fc": "runs commands of the history",
    "history": "reads commands of the history",
}

RUNNING_OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tar": (
        "IF",
        ("to-command", "checkpoint-action", "use-compress-program", "rsh-command", "info-script", "new-volume-script"),
    ),
    "gtar": (
        "IF",
        ("to-command", "checkpoint-action", "use-compress-program", "rsh-command", "info-script", "new-volume-script"),
    ),
    "bsdtar": ("", ("use-compress-program",)),
    "cpio": ("", ("rsh-command",)),
    "rsync": ("e", ("rsh", "rsync-path")),
    "scp": ("SoF", ()),
    "sftp": ("SoFD", ()),
    "zip": ("T", ("unzip-command",)),
    "sort": ("", ("compress-program",)),
    "split": ("", ("filter",)),
    "wget": ("e", ("execute", "use-askpass", "config")),
    "nc": ("ec", ("exec", "sh-exec", "lua-exec")),
    "ncat": ("ec", ("exec", "sh-exec", "lua-exec")),
    "netcat": ("ec", ("exec", "sh-exec", "lua-exec")),
    "apt": ("oc", ("option", "config-file")),
    "apt-get": ("oc", ("option", "config-file")),
    "aptitude": ("o", ()),
    "dpkg": ("", ("pre-invoke", "post-invoke", "status-logger", "admindir", "instdir", "root")),
    "install": ("", ("strip-program",)),
    "ssh-keygen": ("D", ()),
    "rg": ("", ("pre", "hostname-bin")),
    "fd": ("xX", ("exec", "exec-batch")),
    "fdfind": ("xX", ("exec", "exec-batch")),
    "ssh-add": ("s", ()),
    "tcpdump": ("z", ("postrotate-command",)),
}
"""Programs that run what an option says: its letters, and its long names, which may be abbreviated."""

_LONG_OPTIONS = {
    "rm": """
        dir force help interactive no-preserve-root one-file-system preserve-root recursive verbose version
    """,
    "rmdir": """
        ignore-fail-on-non-empty parents verbose help version
    """,
    "chmod": """
        changes no-preserve-root preserve-root quiet silent recursive reference verbose
    """,
    "chown": """
        changes dereference from no-dereference no-preserve-root preserve-root quiet silent recursive
        reference verbose
    """,
    "chgrp": """
        changes dereference no-dereference no-preserve-root preserve-root quiet silent recursive reference
        verbose
    """,
    "cp": """
        archive attributes-only backup copy-contents dereference force interactive link no-clobber
        no-dereference no-target-directory one-file-system parents preserve recursive reflink
        remove-destination sparse strip-trailing-slashes suffix symbolic-link target-directory update verbose
    """,
    "mv": """
        backup force interactive no-clobber no-target-directory strip-trailing-slashes suffix target-directory
        update verbose
    """,
    "ln": """
        backup directory force interactive logical no-dereference no-target-directory physical relative suffix
        symbolic target-directory verbose
    """,
    "shred": """
        exact force iterations random-source remove size verbose zero
    """,
    "truncate": """
        io-blocks no-create reference size
    """,
    "sed": """
        debug expression file follow-symlinks in-place line-length null-data posix quiet regexp-extended
        sandbox separate silent unbuffered zero-terminated
    """,
    "journalctl": """
        cursor-file flush follow force relinquish-var rotate setup-keys smart-relinquish-var sync
        update-catalog vacuum-files vacuum-size vacuum-time directory file root image since unit until
    """,
    "systemctl": """
        force global host image kill-whom machine no-block now preset-mode root runtime signal user
    """,
    "userdel": """
        force remove root selinux-user
    """,
    "git": """
        force force-with-lease hard delete mirror prune
    """,
    "rsync": """
        archive delete delete-after delete-before delete-delay delete-during delete-excluded force inplace
        recursive remove-source-files
    """,
}
LONG_OPTIONS = {program: tuple(names.split()) for program, names in _LONG_OPTIONS.items()}
"""Long options that an abbreviation is completed to. An option that is missing here only stays abbreviated."""

LONG_WORDS = frozenset(
    (
        "find",
        "java",
        "javac",
        "openssl",
        "convert",
        "magick",
        "ffmpeg",
        "ffprobe",
        "gcc",
        "clang",
        "xset",
        "terraform",
        "ip",
        "tc",
        "lvm",
        "iptables-xml",
        "qemu-img",
    )
)
"""Programs whose options are words behind a single dash."""

_NAMES = re.compile(
    r"(?:PATH|IFS|ENV|SHELLOPTS|BASHOPTS|BASH|PS[0-4]|SHELL|HOME|CDPATH|FPATH|fpath|path|ZDOTDIR|module_path|NULLCMD|"
    r"READNULLCMD|FCEDIT|EXECIGNORE|GLOBIGNORE|OPTIND|CLASSPATH|WGETRC|EXINIT|LOCPATH|NLSPATH|TERMINFO|TERMCAP|"
    r"(?:BASH_|KSH_|HIST|LD_|DYLD_|GCONV_|PERL|PYTHON|RUBY|GEM_|NODE_|LUA_|JAVA_|_JAVA_|JDK_|PHP_|TCL|R_|GIT_|LESS|XDG_|"
    r"SSH_|RSYNC_|SUDO_|TAR_|MAKE|OPENSSL_|CURL_|DOCKER_|KUBE|ANSIBLE_|APT_|DPKG_|GREP_|ZIP|UNZIP|MAN|SYSTEMD_|"
    r"GLIBC_|NIX_|CARGO_|RUST|GO[A-Z]*FLAGS|NPM_|npm_|BUNDLE_|RAKE|AWK|VIM|EMACS|TMUX|PSQL|MYSQL).*|"
    r".*(?:EDITOR|PAGER|BROWSER|_OPTIONS|OPTS|_PRELOAD|_COMMAND|_PROGRAM|_SHELL|_RSH|_ASKPASS|CONFIG|_HOME))\Z"
)


NUMBERS = frozenset(("RANDOM", "SRANDOM", "SECONDS", "TMOUT", "COLUMNS", "LINES", "LINENO", "HISTCMD", "EPOCHSECONDS"))
"""Variables that some shells work out as arithmetic when they are set."""


def changes_programs(name: str) -> bool:
    """True if a variable of this name may change which program a name runs, or what it runs."""
    return _NAMES.match(name) is not None
