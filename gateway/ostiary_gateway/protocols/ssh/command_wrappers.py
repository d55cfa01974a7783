"""Programs that run another program which stands among their arguments: where it stands, and as whom it runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from .command_options import Options, Unknown, known, part, read_options
from .command_programs import HARMLESS_ALONE, SHELLS, changes_programs
from .command_reader_words import Word

_NAMED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")
_SPLIT_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,^= \t-]*\Z")
STDIN = "reads commands from its input"


@dataclass(slots=True)
class Inner:
    """What a wrapper runs: `words` of a command, or `code` of the shell.

    `exact`: nothing is put into the words that the text does not show. `here`: the words are also given the
    wrapper's input from the text.
    """

    words: list[Word] | None = None
    code: str | None = None
    user: str | None = None
    assignments: tuple[str, ...] = ()
    exact: bool = True


@dataclass(slots=True)
class Seen:
    """What is seen through a wrapper. `own`: how many of its words are its own. `reason`: why it is opaque."""

    own: int
    inner: list[Inner] = field(default_factory=list)
    reason: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


Handler = Callable[[list[Word]], Seen]


def code_of(word: Word) -> str:
    """The text of a word that is given to a shell."""
    if not word.exact or word.splits:
        raise Unknown("commands that are put together when they run")
    if word.ansi:
        raise Unknown("commands in $'…', which not every shell decodes")
    return word.text


def assigned(words: list[Word], at: int, names: list[str]) -> tuple[int, str]:
    """Leading NAME=value words; why they make it opaque, if they do."""
    reason = ""
    while at < len(words):
        text = words[at].text
        found = _NAMED.match(text)
        if found is None:
            if "=" in text and words[at].exact:
                reason = reason or "a variable with an unusual name"
                names.append(text.partition("=")[0])
                at += 1
                continue
            break
        known(words[at])
        names.append(found.group(1))
        if changes_programs(found.group(1)):
            reason = reason or f"{found.group(1)} changes what programs are or do"
        at += 1
    return at, reason


def plain(
    options: Options,
    positionals: int = 0,
    alone: str = "",
    stop: tuple[str, ...] = (),
    refuse: tuple[str, ...] = (),
) -> Handler:
    """A wrapper of options, words of its own, and the command.

    `alone`: why it is opaque without a command. `stop`: options with which it runs nothing; `refuse`: with which
    it is opaque.
    """

    def handler(words: list[Word]) -> Seen:
        found = read_options(words, 1, options)
        if found.has(*refuse):
            return Seen(len(words), reason="an option that runs something else")
        if found.has("help", "version", *stop):
            return Seen(len(words))
        at = found.at
        for word in words[at : at + positionals]:
            known(word)
        at += positionals
        if at >= len(words):
            return Seen(len(words), reason=alone)
        return Seen(at, [Inner(words[at:])])

    return handler


def shell(words: list[Word]) -> Seen:
    """sh -c; a shell without a command reads one from its input, or from a file."""
    if len(words) == 2 and words[1].text in HARMLESS_ALONE:
        return Seen(2)
    at, command, stdin = 1, False, False
    while at < len(words):
        word = known(words[at])
        text = word.text
        if not word.exact:
            raise Unknown("an expansion may hold options or commands")
        if text in ("--", "-"):
            at += 1
            break
        if text[:2] == "--":
            if text not in ("--login", "--norc", "--noprofile", "--posix", "--restricted", "--noediting", "--verbose"):
                raise Unknown(f"the option {text} of a shell is not known")
        elif text[:1] in ("-", "+") and len(text) > 1:
            if text[0] == "-" and "c" in text:
                command = True
            if "i" in text:
                raise Unknown(STDIN)
            stdin = stdin or "s" in text
            if text.strip("-+cefhlsuvxnabmpEo"):
                raise Unknown(f"the option {text} of a shell is not known")
            for _ in range(text.count("o")):
                at += 1
                if at >= len(words) or words[at].text not in SHELL_OPTIONS:
                    raise Unknown("options of a shell that change how it reads")
        else:
            break
        at += 1
    if not command:
        return Seen(len(words), reason="runs what a file says" if at < len(words) and not stdin else STDIN)
    if at >= len(words):
        raise Unknown("a shell without its command")
    return Seen(at, [Inner(code=code_of(words[at]))])


SHELL_OPTIONS = frozenset(
    ("errexit", "nounset", "pipefail", "xtrace", "noclobber", "noglob", "verbose", "allexport", "noexec")
)


def _is_root(user: Word | None) -> str:
    if user is None:
        return "root"
    return "root" if user.text in ("root", "#0") else user.text


_SUDO = Options(
    "AbBC:D:Eeg:Hh:iKklNnPp:R:r:ST:t:U:u:sVv",
    "askpass background bell close-from= chdir= preserve-env? edit group= set-home help host= login remove-timestamp "
    "reset-timestamp list no-update non-interactive preserve-groups prompt= chroot= role= stdin shell type= "
    "command-timeout= other-user= user= version validate",
)


def sudo(words: list[Word]) -> Seen:
    names: list[str] = []
    at, options, reason = 1, [], ""
    if len(words) == 2 and words[1].text in ("-h", "--help"):
        return Seen(2)
    while True:
        found = read_options(words, at, _SUDO)
        options.extend(found.options)
        ended = found.at > at and words[found.at - 1].text == "--"
        at = found.at
        if at < len(words) and _NAMED.match(words[at].text):
            at, why = assigned(words, at, names)
            reason = reason or why
            if not ended:
                continue
        break
    found.options = options
    user = _is_root(found.value("u", "user"))
    if found.has("e", "edit"):
        return Seen(len(words), reason="runs an editor")
    if found.has("V", "version", "help", "l", "list", "v", "validate", "K", "remove-timestamp"):
        return Seen(len(words))
    if found.has("R", "chroot", "preserve-env") and any(
        changes_programs(name) for value in found.values("preserve-env") for name in value.text.split(",")
    ):
        reason = reason or "an option that changes what programs are"
    in_shell = found.has("i", "login", "s", "shell")
    if at >= len(words):
        if found.has("k", "reset-timestamp") and not in_shell:
            return Seen(len(words), reason=reason)
        return Seen(len(words), reason=reason or STDIN)
    inner = words[at:]
    if in_shell:
        # The words are quoted for the shell, all but their dollars.
        inner = [_dollars(word) for word in inner]
    return Seen(at, [Inner(inner, user=user, assignments=tuple(names))], reason)


def _dollars(word: Word) -> Word:
    if word.exact and "$" not in word.text:
        return word
    made = part(word, word.text)
    made.exact = False
    made.splits = True
    return made


_DOAS = Options("C:La:nsu:")


def doas(words: list[Word]) -> Seen:
    found = read_options(words, 1, _DOAS)
    if found.has("C", "L"):
        return Seen(len(words))
    if found.has("s") or found.at >= len(words):
        return Seen(len(words), reason=STDIN)
    return Seen(found.at, [Inner(words[found.at :], user=_is_root(found.value("u")))])


_SU = Options(
    "c:fg:G:lmpPs:Thw:V",
    "command= session-command= fast group= supp-group= login preserve-environment pty shell= no-pty help "
    "whitelist-environment= version",
)
_RUNUSER = Options(
    "c:fg:G:lmpPs:Tu:hw:V",
    "command= session-command= fast group= supp-group= login preserve-environment pty shell= no-pty user= help "
    "whitelist-environment= version",
)


def su(words: list[Word], options: Options = _SU) -> Seen:
    found = read_options(words, 1, options, permute=True)
    if found.has("help", "version", "h", "V"):
        return Seen(len(words))
    chosen = found.value("s", "shell")
    if chosen is not None and (not chosen.exact or chosen.text.rpartition("/")[2] not in SHELLS):
        raise Unknown("a shell that is not known")
    if found.has("w", "whitelist-environment", "m", "p", "preserve-environment"):
        pass
    rest = [word for word in found.rest if word.text != "-"]
    if options is _RUNUSER and found.has("u", "user"):
        plain_found = read_options(words, 1, options)
        if plain_found.at >= len(words):
            raise Unknown(STDIN)
        return Seen(plain_found.at, [Inner(words[plain_found.at :], user=_is_root(plain_found.value("u", "user")))])
    user = _is_root(rest[0] if rest else None)
    command = found.value("c", "command", "session-command")
    if command is None or len(rest) > 1 or len(found.values("c", "command", "session-command")) > 1:
        raise Unknown(STDIN)
    return Seen(len(words), [Inner(code=code_of(command), user=user)])


def runuser(words: list[Word]) -> Seen:
    return su(words, _RUNUSER)


_ENV = Options(
    "iu:C:S:v0a:",
    "ignore-environment null unset= chdir= split-string= block-signal? default-signal? ignore-signal? argv0= "
    "list-signal-handling debug help version",
)


def env(words: list[Word]) -> Seen:
    names: list[str] = []
    found = read_options(words, 1, _ENV)
    split = found.value("S", "split-string")
    if split is None and found.has("help", "version"):
        return Seen(len(words))
    at = found.at
    if split is not None and (found.options[-1][1] is not split or words[at - 1].text == "--" or _is_dash(words, at)):
        # What stands behind the text is behind its words: no more options of env, if a program is among them.
        raise Unknown("options behind a text that env splits")
    if _is_dash(words, at):
        at += 1
    if split is not None:
        if not split.exact or not _SPLIT_PLAIN.match(split.text) or len(found.values("S", "split-string")) > 1:
            raise Unknown("a text that env splits")
        parts = [part(split, each) for each in split.text.split()]
        if parts and parts[0].text[:1] == "-":
            raise Unknown("options in a text that env splits")
        rest = parts + words[at:]
        start, reason = assigned(rest, 0, names)
        if start >= len(rest):
            return Seen(len(words), reason=reason)
        return Seen(at, [Inner(rest[start:], assignments=tuple(names))], reason)
    reason = "a variable is taken away that programs need" if _unsets(found.values("u", "unset")) else ""
    at, why = assigned(words, at, names)
    reason = reason or why
    if at >= len(words):
        return Seen(len(words), reason=reason)
    return Seen(at, [Inner(words[at:], assignments=tuple(names))], reason)


def _is_dash(words: list[Word], at: int) -> bool:
    return at < len(words) and words[at].text == "-"


def _unsets(values: list[Word]) -> bool:
    return any(value.text in ("PATH", "HOME", "IFS") or not value.exact for value in values)


_TIME = Options("pf:o:avqVh", "portability format= output= append verbose quiet version help")


def time(words: list[Word]) -> Seen:
    found = read_options(words, 1, _TIME)
    names: list[str] = []
    at, reason = assigned(words, found.at, names)
    output = found.value("o", "output")
    outputs = (output.text,) if output is not None else ()
    if at >= len(words) or found.has("V", "version", "help", "h"):
        return Seen(len(words), reason=reason, outputs=outputs)
    return Seen(at, [Inner(words[at:], assignments=tuple(names))], reason, outputs=outputs)


def nice(words: list[Word]) -> Seen:
    at = 1
    options = Options("n:", "adjustment= help version")
    while at < len(words) and re.match(r"--?[0-9]+\Z|-\+[0-9]+\Z", words[at].text):
        at += 1
    found = read_options(words, at, options)
    if found.at >= len(words) or found.has("help", "version"):
        return Seen(len(words))
    return Seen(found.at, [Inner(words[found.at :])])


def chrt(words: list[Word]) -> Seen:
    found = read_options(
        words, 1,
        Options("abdfiomprRT:P:D:vhVe", "all-tasks batch deadline fifo idle other rr reset-on-fork sched-runtime= "
                "sched-period= sched-deadline= max pid verbose help version ext"),
    )  # fmt: skip
    if found.has("p", "pid", "m", "max", "help", "version", "h", "V"):
        return Seen(len(words))
    at = found.at
    if at < len(words) and words[at].text.isdecimal():
        at += 1
    if at >= len(words):
        return Seen(len(words))
    return Seen(at, [Inner(words[at:])])


def flock(words: list[Word]) -> Seen:
    options = Options(
        "c:eE:FhnosuVw:x",
        "close command= conflict-exit-code= exclusive fcntl help nonblock nb no-fork shared timeout= "
        "unlock verbose version wait=",
    )  # fmt: skip
    found = read_options(words, 1, options)
    at = found.at + 1
    if found.has("help", "version", "h", "V") or at >= len(words):
        return Seen(len(words))
    if words[at].text in ("-c", "--command"):
        if at + 2 != len(words):
            raise Unknown("a command of flock that cannot be read")
        return Seen(len(words), [Inner(code=code_of(words[at + 1]))])
    if found.has("c", "command"):
        raise Unknown("a command of flock that cannot be read")
    return Seen(at, [Inner(words[at:])])


def script(words: list[Word]) -> Seen:
    options = Options(
        "ac:eE:fI:B:O:o:T:t?m:qhV", "append command= echo= flush force log-in= log-out= log-io= log-timing= timing? "
        "logging-format= output-limit= quiet return help version",
    )  # fmt: skip
    found = read_options(words, 1, options, permute=True)
    if found.has("help", "version", "h", "V"):
        return Seen(len(words))
    outputs = tuple(
        word.text
        for word in found.rest
        + found.values("I", "B", "O", "T", "log-in", "log-out", "log-io", "log-timing", "timing", "t")
    )
    command = found.value("c", "command")
    if command is None:
        return Seen(len(words), reason=STDIN, outputs=outputs)
    return Seen(len(words), [Inner(code=code_of(command))], outputs=outputs)


def watch(words: list[Word]) -> Seen:
    options = Options(
        "bcCd?egn:pq:rs:txvwhf",
        "beep color no-color differences? errexit chgexit equexit= interval= precise no-rerun "
        "shotsdir= no-title no-wrap exec help version follow",
    )  # fmt: skip
    found = read_options(words, 1, options)
    at = found.at
    if found.has("help", "version", "h", "v") or at >= len(words):
        return Seen(len(words))
    if found.has("x", "exec"):
        return Seen(at, [Inner(words[at:])])
    return Seen(at, [Inner(code=" ".join(code_of(word) for word in words[at:]))])


UNKNOWN = Word("", -1, False)
"""Words that come from elsewhere: none, one or many."""
UNKNOWN.exact = False
UNKNOWN.splits = True


def xargs(words: list[Word]) -> Seen:
    options = Options(
        "0a:d:E:e?I:i?L:l?n:oP:prs:tx",
        "arg-file= delimiter= eof? exit null max-args= max-chars= max-lines? max-procs= "
        "interactive no-run-if-empty open-tty process-slot-var= replace? show-limits verbose help version",
    )  # fmt: skip
    found = read_options(words, 1, options)
    inputs = tuple(word.text for word in found.values("a", "arg-file"))
    if found.has("help", "version"):
        return Seen(len(words))
    if found.at >= len(words):
        return Seen(len(words), inputs=inputs)
    variable = found.value("process-slot-var")
    reason = "a variable that input sets" if variable is not None and changes_programs(variable.text) else ""
    if not found.has("I", "i", "replace"):
        return Seen(found.at, [Inner([*words[found.at :], UNKNOWN], exact=False)], reason, inputs)
    marks = [
        value.text if value is not None else "{}" for name, value in found.options if name in ("I", "i", "replace")
    ]
    inner = [replaced(word, marks) for word in words[found.at :]]
    return Seen(found.at, [Inner(inner, exact=False)], reason, inputs)


def replaced(word: Word, marks: list[str]) -> Word:
    """The word, unknown if it holds one of the marks that stand for input."""
    if not any(mark in word.text for mark in marks):
        return word
    made = part(word, word.text)
    made.exact = False
    return made


def find(words: list[Word]) -> Seen:
    seen = Seen(len(words))
    own: list[str] = []
    outputs: list[str] = []
    at = 1
    while at < len(words):
        word = words[at]
        text = word.text
        at += 1
        own.append(text)
        if word.splits and (text[:1] in "$`*?[" or "$" in text or "`" in text):
            seen.reason = seen.reason or "an expansion may hold options or commands"
        if text in ("-fprint", "-fprint0", "-fls", "-fprintf"):
            outputs.extend(each.text for each in words[at : at + 1])
        if text not in ("-exec", "-execdir", "-ok", "-okdir"):
            continue
        start = at
        while at < len(words) and words[at].text != ";":
            if words[at].text == "+" and words[at - 1].text == "{}" and at > start:
                break
            at += 1
        if at >= len(words) or at == start:
            seen.reason = seen.reason or "a command of find that has no end"
            continue
        inner = [replaced(each, ["{}"]) for each in words[start:at]]
        if words[at].text == "+":
            inner[-1] = UNKNOWN
        seen.inner.append(Inner(inner, exact=not any("{}" in each.text for each in words[start:at])))
        at += 1
    seen.outputs = tuple(outputs)
    return seen


def parallel(words: list[Word]) -> Seen:
    found = read_options(
        words, 1,
        Options("0j:P:kn:N:L:mXa:vtu",
            "null jobs= keep-order max-args= will-cite arg-file= halt= bar dry-run verbose "
                "line-buffer ungroup tag no-notice retries= timeout= delay= joblog= quote"),
    )  # fmt: skip
    at = found.at
    template = []
    for word in words[at:]:
        if word.text[:3] in (":::", "::::"):
            break
        template.append(word)
    if not template:
        raise Unknown("commands that come from input")
    code = " ".join(code_of(word) for word in template)
    first = template[0].text.split(" ")[0]
    if "{" in first:
        raise Unknown("commands that come from input")
    return Seen(at, [Inner(code=code, exact=False)])


def busybox(words: list[Word]) -> Seen:
    if len(words) < 2 or words[1].text in ("--list", "--list-full", "--help"):
        return Seen(len(words))
    if words[1].text.startswith("-"):
        raise Unknown("an option that is not known")
    return Seen(1, [Inner(words[1:])])


def systemd_run(words: list[Word]) -> Seen:
    options = Options(
        "H:M:u:p:E:tPSqdGrh",
        "user system host= machine= scope unit= property= description= slice= slice-inherit expand-environment= "
        "no-block remain-after-exit wait send-sighup service-type= uid= gid= nice= working-directory= same-dir "
        "setenv= pty "
        "pipe shell quiet collect on-active= on-boot= on-startup= on-unit-active= on-unit-inactive= on-calendar= "
        "on-clock-change on-timezone-change path-property= socket-property= timer-property= no-ask-password "
        "background= help version",
    )  # fmt: skip
    found = read_options(words, 1, options)
    if found.has("help", "version", "h"):
        return Seen(len(words))
    if found.has("S", "shell"):
        raise Unknown(STDIN)
    names = [value.text.partition("=")[0] for value in found.values("E", "setenv")]
    reason = ""
    if found.has("p", "property", "path-property", "socket-property", "timer-property"):
        reason = "properties that may run something else"
    elif any(changes_programs(name) for name in names):
        reason = "a variable changes what programs are or do"
    if found.at >= len(words):
        return Seen(len(words), reason=reason)
    user = found.value("uid")
    return Seen(
        found.at,
        [Inner(words[found.at :], user=_is_root(user) if user is not None else None, assignments=tuple(names))],
        reason,
    )


def one_word(words: list[Word]) -> Seen:
    """A wrapper without options: the next word is the program."""
    at = 2 if len(words) > 2 and words[1].text == "--" else 1
    if at >= len(words) or words[1].text in ("--help", "--version"):
        return Seen(len(words))
    if words[at].text.startswith("-"):
        raise Unknown("an option that is not known")
    return Seen(at, [Inner(words[at:])])
