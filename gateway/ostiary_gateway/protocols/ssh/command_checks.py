"""Programs whose arguments may be programs in small languages of their own: sed, awk, git, tar and the like."""

from __future__ import annotations

import re

from .command_options import Options, Unknown, hides_options, read_options
from .command_programs import (
    HARMLESS_ALONE,
    INTERPRETER,
    RUNNING_OPTIONS,
    RUNS_OTHERS,
)
from .command_reader_words import Word
from .command_wrappers import Handler, Seen

HIDDEN = "an expansion may hold options that run something"
_PLACE = r"/(?:[^/\\\n]|\\[^\n])*/I?"
_ADDRESS = rf"(?:(?:[0-9]+(?:~[0-9]+)?|\$|{_PLACE})(?:,(?:[0-9]+|\$|[+~][0-9]+|{_PLACE}))?[ \t]*!?[ \t]*)?"
_SED_COMMAND = re.compile(
    rf"[ \t\n;]*{_ADDRESS}(?:[pdqQDPNnGHghx=lz](?:[ \t]*[0-9]+)?|"
    r"s([/|,:#@!%_+~])(?:(?!\1)[^\\\n]|\\[^\n])*\1(?:(?!\1)[^\\\n]|\\[^\n])*\1[gpiIM0-9]*|"
    r"y/(?:[^/\\\n]|\\[^\n])*/(?:[^/\\\n]|\\[^\n])*/)[ \t]*(?:[;\n}]|\Z)"
)
_AWK_RUNS = re.compile(r"system|\||getline|@|close")
_AWK_PRINTS = re.compile(r"print|[\n;}>]")
_GIT = Options(
    "C:c:pPh", "exec-path? git-dir= work-tree= namespace= super-prefix= config-env= paginate no-pager "
    "no-replace-objects "
    "bare literal-pathspecs glob-pathspecs noglob-pathspecs icase-pathspecs no-optional-locks no-lazy-fetch "
    "attr-source= "
    "html-path man-path info-path version help",
)  # fmt: skip
_GIT_KNOWN = frozenset(
    ("status", "log", "show", "diff", "branch", "tag", "rev-parse", "rev-list", "describe", "remote", "ls-files",
        "ls-tree",
     "cat-file", "blame", "shortlog", "stash", "add", "rm", "mv", "reset", "restore", "checkout", "switch",
     "commit", "merge",
     "fetch", "pull", "push", "clone", "init", "clean", "cherry-pick", "revert", "reflog", "show-ref", "for-each-ref",
     "ls-remote", "symbolic-ref", "update-ref", "worktree", "gc", "fsck", "count-objects", "apply", "archive",
     "bundle",
     "merge-base", "name-rev", "whatchanged", "version", "help", "config", "notes", "prune", "grep",
     "sparse-checkout")
)  # fmt: skip
_GIT_RUNS = ("--config", "--upload-pack", "--receive-pack", "--exec", "--ext-diff", "--open-files-in-pager",
             "--textconv", "--template", "--remote", "--gpg-sign", "--interactive", "--edit", "--output")  # fmt: skip


def _reason(words: list[Word], reason: str) -> Seen:
    return Seen(len(words), reason=reason)


def interpreter(words: list[Word]) -> Seen:
    if len(words) == 2 and words[1].exact and (words[1].text in HARMLESS_ALONE or words[1].text == "-v"):
        return _reason(words, "")
    return _reason(words, "runs code in another language")


def editor(reason: str) -> Handler:
    def handler(words: list[Word]) -> Seen:
        alone = len(words) == 2 and words[1].exact and words[1].text in ("--version", "--help")
        return _reason(words, "" if alone else reason)

    return handler


def running_options(words: list[Word]) -> Seen:
    """Programs that run what an option says."""
    program = words[0].text.rpartition("/")[2]
    letters, names = RUNNING_OPTIONS[program]
    if program == "rsync" and any(word.text == "--server" for word in words[1:]):
        letters = ""
    for number, word in enumerate(words[1:]):
        text = word.text
        if text == "--" and word.exact:
            break
        if hides_options(word):
            return _reason(words, HIDDEN)
        if text.startswith("--"):
            name = text[2:].partition("=")[0]
            if name and any(each.startswith(name) for each in names):
                return _reason(words, f"the option --{name} runs something else")
        elif text.startswith("-") or (number == 0 and "tar" in program):
            hit = set(text) & set(letters)
            if hit:
                return _reason(words, f"the option -{sorted(hit)[0]} may run something else")
    return _reason(words, "")


def sed(words: list[Word]) -> Seen:
    try:
        found = read_options(
            words, 1,
            Options("nEre:f:i?l:suz",
                "quiet silent regexp-extended expression= file= in-place? line-length= separate "
                    "unbuffered null-data zero-terminated posix sandbox debug follow-symlinks help version"),
            permute=True,
        )  # fmt: skip
    except Unknown:
        return _reason(words, HIDDEN)
    if found.has("f", "file"):
        return _reason(words, "runs what a file says")
    scripts = found.values("e", "expression") or found.rest[:1]
    for script in scripts:
        if not script.exact:
            return _reason(words, "a script of sed that is worked out")
        at = 0
        text = script.text
        while at < len(text):
            match = _SED_COMMAND.match(text, at)
            if match is None:
                if text[at:].strip():
                    return _reason(words, "a script of sed that may run commands or write files")
                break
            at = match.end()
    return _reason(words, "")


def _prints_to_file(text: str) -> bool:
    printing = False
    for found in _AWK_PRINTS.finditer(text):
        sign = found.group()
        if sign == ">" and printing:
            return True
        printing = sign == "print" or (printing and sign == ">")
    return False


def awk(words: list[Word]) -> Seen:
    at = 1
    while at < len(words) and (words[at].text[:1] == "-" or not words[at].exact):
        word = words[at]
        if not word.exact and (word.splits or word.text[:2] not in ("-v", "-F")):
            return _reason(words, HIDDEN)
        if word.text in ("-v", "-F"):
            at += 1
            if at < len(words) and words[at].splits:
                return _reason(words, HIDDEN)
        elif word.text[:2] not in ("-v", "-F") and word.text not in ("--", "--posix", "--re-interval", "--version"):
            return _reason(words, "an option of awk that may run something else")
        at += 1
        if word.text == "--":
            break
    if at >= len(words):
        return _reason(words, "")
    program = words[at]
    if not program.exact or _AWK_RUNS.search(program.text) or _prints_to_file(program.text):
        return _reason(words, "a script of awk that may run commands or write files")
    return _reason(words, "")


def git(words: list[Word]) -> Seen:
    try:
        found = read_options(words, 1, _GIT)
    except Unknown as unknown:
        return _reason(words, str(unknown))
    if found.has("c", "config-env", "p", "paginate") or any(True for _ in found.values("exec-path")):
        return _reason(words, "an option of git that may run something else")
    if found.at >= len(words):
        return _reason(words, "")
    verb = words[found.at].text
    if verb not in _GIT_KNOWN:
        return _reason(words, "a command of git that may run something else, or an alias")
    for word in words[found.at + 1 :]:
        text = word.text
        if hides_options(word):
            return _reason(words, HIDDEN)
        if text == "--":
            break
        name = text.partition("=")[0]
        if (
            (len(name) > 3 and any(each.startswith(name) for each in _GIT_RUNS))
            or text.startswith(("ext::", "-O", "-u"))
            or (verb == "config" and not text.startswith(("--get", "--list", "-l", "--show")) and "." not in text)
            or (verb in ("clone", "fetch", "pull") and text.startswith(("-c", "ext::")))
        ):
            return _reason(words, "an option of git that may run something else")
    if verb == "config" and len(words) - found.at > 2 and not words[found.at + 1].text.startswith("-"):
        return _reason(words, "a setting of git that may run something else")
    return _reason(words, "")


def crontab(words: list[Word]) -> Seen:
    listing = any(word.text == "-l" for word in words[1:]) and not any(word.text == "-e" for word in words[1:])
    return _reason(words, "" if listing else "runs commands later that its arguments do not show")


def systemctl(words: list[Word]) -> Seen:
    for word in words[1:]:
        if word.text in ("edit", "-H", "--host") or word.text.startswith(("--ho", "-H")):
            return _reason(words, "runs an editor or another host's commands")
    return _reason(words, "")


def loader(words: list[Word]) -> Seen:
    return _reason(words, "runs a program through the loader")


CHECKS: dict[str, Handler] = {
    **{name: editor(reason) for name, reason in RUNS_OTHERS.items()},
    **dict.fromkeys(RUNNING_OPTIONS, running_options),
    "sed": sed,
    "gsed": sed,
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk", "original-awk", "busybox-awk"), awk),
    "git": git,
    "crontab": crontab,
    "systemctl": systemctl,
}


def check_of(program: str) -> Handler | None:
    """How the program's arguments are looked at, beyond being listed."""
    found = CHECKS.get(program)
    if found is not None:
        return found
    if INTERPRETER.match(program):
        return interpreter
    if program.startswith(("ld-linux", "ld-musl", "ld.so", "ld64.so")):
        return loader
    return None
