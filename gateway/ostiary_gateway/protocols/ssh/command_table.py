"""Which programs are seen through, and how."""

from __future__ import annotations

from .command_elsewhere import docker, ip, kubectl, ssh
from .command_options import Options
from .command_programs import FOREIGN_SHELLS, SHELLS
from .command_reader_words import Word
from .command_wrappers import (
    STDIN,
    Handler,
    Seen,
    busybox,
    chrt,
    doas,
    env,
    find,
    flock,
    nice,
    one_word,
    parallel,
    plain,
    runuser,
    script,
    shell,
    su,
    sudo,
    systemd_run,
    time,
    watch,
    xargs,
)


def _foreign(words: list[Word]) -> Seen:
    return Seen(len(words), reason="runs code in another language")


_UNSHARE = Options(
    "mui?pnUCTfrct?hVS:G:R:w:l:",
    "mount? uts? ipc? net? pid? user? cgroup? time? fork map-user= map-group= map-root-user map-current-user "
    "map-auto map-users= map-groups= kill-child? mount-proc? mount-binfmt? propagation= setgroups= keep-caps root= "
    "wd= setuid= setgid= "
    "monotonic= boottime= load-interp= help version",
)  # fmt: skip
_NSENTER = Options(
    "at:m?u?i?n?p?U?C?T?S:G:r?w?W?FZehVcN:",
    "all target= mount? uts? ipc? net? pid? user? cgroup? time? setuid= setgid= preserve-credentials "
    "root? wd? wdns? no-fork follow-context env user-parent keep-caps net-socket= join-cgroup help version",
)  # fmt: skip

WRAPPERS: dict[str, Handler] = {
    **dict.fromkeys(SHELLS, shell),
    **dict.fromkeys(FOREIGN_SHELLS, _foreign),
    "sudo": sudo,
    "doas": doas,
    "su": su,
    "runuser": runuser,
    "env": env,
    "time": time,
    "nice": nice,
    "chrt": chrt,
    "flock": flock,
    "script": script,
    "watch": watch,
    "xargs": xargs,
    "find": find,
    "parallel": parallel,
    "busybox": busybox,
    "toybox": busybox,
    "systemd-run": systemd_run,
    "ssh": ssh,
    "docker": docker,
    "podman": docker,
    "nerdctl": docker,
    "crictl": docker,
    "kubectl": kubectl,
    "oc": kubectl,
    "k3s": one_word,
    "ip": ip,
    "nohup": one_word,
    "chronic": one_word,
    "eatmydata": one_word,
    "linux32": one_word,
    "linux64": one_word,
    "coproc": one_word,
    "setsid": plain(Options("cfwhV", "ctty fork wait help version"), stop=("h", "V")),
    "ionice": plain(
        Options("c:n:p:P:u:thV", "class= classdata= pid= pgid= uid= ignore help version"),
        stop=("p", "P", "u", "pid", "pgid", "uid", "h", "V"),
    ),
    "stdbuf": plain(Options("i:o:e:", "input= output= error= help version")),
    "timeout": plain(Options("k:s:vfp", "kill-after= signal= foreground preserve-status verbose help version"), 1),
    "taskset": plain(Options("acphV", "all-tasks cpu-list pid help version"), 1, stop=("p", "pid", "h", "V")),
    "chroot": plain(Options("", "groups= userspec= skip-chdir help version"), 1, alone=STDIN),
    "unshare": plain(_UNSHARE, alone=STDIN, stop=("h", "V"), refuse=("l", "load-interp")),
    "nsenter": plain(_NSENTER, alone=STDIN, stop=("h", "V")),
    "choom": plain(Options("n:p:hV", "adjust= pid= help version"), stop=("p", "pid", "h", "V")),
    "numactl": plain(Options("i:N:C:m:lap:sHh",
    "interleave= cpunodebind= physcpubind= membind= localalloc all preferred= show hardware help")),
}  # fmt: skip
