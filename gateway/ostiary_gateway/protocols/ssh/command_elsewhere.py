"""Programs that run a command elsewhere: on another host, in a container or pod, in other namespaces."""

from __future__ import annotations

from .command_options import Options, Unknown, known, read_options
from .command_programs import changes_programs
from .command_reader_words import Word
from .command_wrappers import STDIN, Inner, Seen, code_of

_SSH = Options("46AaCfGgKkMNnqsTtVvXxYyB:b:c:D:E:e:F:I:i:J:L:l:m:O:o:p:Q:R:S:W:w:P:")
_SSH_RUNS = ("proxycommand", "localcommand", "permitlocalcommand", "knownhostscommand", "include", "match",
             "pkcs11provider", "securitykeyprovider", "xauthlocation", "remotecommand", "controlpath")  # fmt: skip


def ssh(words: list[Word]) -> Seen:
    found = read_options(words, 1, _SSH)
    if found.has("V", "Q"):
        return Seen(len(words))
    options = found.options
    at = found.at + 1
    if at < len(words):
        more = read_options(words, at, _SSH)
        options = options + more.options
        at = more.at
    for name, value in options:
        if name in ("F", "I") or (
            name == "o"
            and value is not None
            and (not value.exact or value.text.lower().replace("=", " ").split()[:1] in [[key] for key in _SSH_RUNS])
        ):
            raise Unknown("an option that runs something else")
    names = {name for name, _ in options}
    if at >= len(words):
        return Seen(len(words), reason="" if names & {"N", "O", "W", "G"} else STDIN)
    if "s" in names:
        return Seen(len(words))
    return Seen(at, [Inner(code=" ".join(code_of(word) for word in words[at:]))])


_DOCKER = Options(
    "H:Dl:c:", "host= debug log-level= context= config= tls tlscacert= tlscert= tlskey= tlsverify remote url= "
    "connection= "
    "log-opt= root= namespace= n= address=",
)  # fmt: skip
_DOCKER_EXEC = Options(
    "dite:u:w:lT",
    "detach interactive tty privileged env= env-file= user= workdir= detach-keys= latest index= no-TTY preserve-fds=",
)


def docker(words: list[Word]) -> Seen:
    found = read_options(words, 1, _DOCKER)
    at = found.at
    if at >= len(words):
        return Seen(len(words))
    verb = words[at].text
    if verb == "container" and at + 1 < len(words):
        at += 1
        verb = words[at].text
    if verb == "exec":
        inside = read_options(words, at + 1, _DOCKER_EXEC)
        start = inside.at + 1
        names = [value.text.partition("=")[0] for value in inside.values("e", "env")]
        reason = "a variable changes what programs are or do" if any(map(changes_programs, names)) else ""
        if inside.has("env-file"):
            reason = "variables of a file"
        if start >= len(words):
            raise Unknown("an exec without its command")
        return Seen(start, [Inner(words[start:], assignments=tuple(names))], reason)
    if verb not in _DOCKER_KNOWN:
        return Seen(len(words), reason="runs programs of an image or a file")
    return Seen(len(words))


_DOCKER_KNOWN = frozenset(
    ("ps", "logs", "inspect", "images", "info", "version", "stats", "top", "port", "diff", "history", "search",
        "events",
     "rm", "rmi", "kill", "stop", "start", "restart", "pause", "unpause", "rename", "tag", "pull", "push", "cp",
     "export",
     "save", "ls", "image", "volume", "network", "system", "wait", "login", "logout", "prune", "update")
)  # fmt: skip


def kubectl(words: list[Word]) -> Seen:
    texts = [word.text for word in words[1:]]
    verbs = [text for text in texts if not text.startswith("-")]
    if "exec" not in texts:
        if any(text in ("edit", "debug", "run", "plugin", "krew", "kustomize", "rsh", "shell") for text in verbs):
            return Seen(len(words), reason="runs programs that its arguments do not show")
        return Seen(len(words))
    if "--" not in texts:
        raise Unknown("a command in a container that cannot be told from the options")
    for word in words[1 : texts.index("--") + 1]:
        known(word)
        if not word.exact and word.text[:1] in ("$", "`"):
            raise Unknown("an expansion may hold options or commands")
    at = texts.index("--") + 2
    if at >= len(words):
        raise Unknown("an exec without its command")
    return Seen(at, [Inner(words[at:])])


def ip(words: list[Word]) -> Seen:
    texts = [word.text for word in words]
    if any(not word.exact and word.splits for word in words):
        raise Unknown("an expansion may hold options or commands")
    if any(text.startswith(("-b", "--b")) for text in texts):
        raise Unknown("runs what a file says")
    for number, text in enumerate(texts):
        if (
            number
            and text
            and "exec".startswith(text)
            and text[0] == "e"
            and any(each and ("netns".startswith(each) or "vrf".startswith(each)) for each in texts[1:number])
        ):
            at = number + 2 - ("-all" in texts or "-a" in texts)
            if at >= len(words):
                raise Unknown("an exec without its command")
            return Seen(at, [Inner(words[at:])])
    return Seen(len(words))
