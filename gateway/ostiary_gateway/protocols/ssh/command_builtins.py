"""Builtins of the shell that run commands, set names, or evaluate what they are given."""

from __future__ import annotations

import re

from .command_options import Options, Unknown, read_options
from .command_programs import NUMBERS, OPAQUE_BUILTINS, OTHER_SHELLS_WORDS, changes_programs
from .command_reader_words import Word
from .command_wrappers import Handler, Inner, Seen, code_of

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SETTING = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\+?=")
_SET_FLAGS = re.compile(r"[-+][aefuxvC]*o?\Z")
_SET_NAMES = frozenset(("errexit", "nounset", "pipefail", "xtrace", "verbose", "noglob", "noclobber", "allexport"))
WORKED_OUT = "a name of a variable that is worked out"
_BINARY = frozenset(
    ("=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef", "-a", "-o")
)
_UNARY = frozenset(f"-{letter}" for letter in "abcdefghkprstuwxzGLNOSn") | {"!", "("}


def _whole(words: list[Word], reason: str = "") -> Seen:
    return Seen(len(words), reason=reason)


def names_problem(names: list[str], worked_out: bool = True) -> str:
    """Why setting these variables makes a line opaque; empty if not. `worked_out`: to values that nobody sees."""
    for name in names:
        if worked_out and name in NUMBERS:
            return f"arithmetic with a value of {name} that may hold commands"
        if changes_programs(name):
            return f"{name} changes what programs are or do"
    return ""


def evaluate(words: list[Word]) -> Seen:
    at = 2 if len(words) > 1 and words[1].text == "--" else 1
    return Seen(len(words), [Inner(code=" ".join(code_of(word) for word in words[at:]))] if at < len(words) else [])


def execute(words: list[Word]) -> Seen:
    found = read_options(words, 1, Options("cla:"))
    if found.at >= len(words):
        return _whole(words)
    return Seen(found.at, [Inner(words[found.at :])])


def command(words: list[Word]) -> Seen:
    found = read_options(words, 1, Options("pvVx"))
    if found.has("x"):
        raise Unknown("an option of other shells")
    if found.has("v", "V") or found.at >= len(words):
        return _whole(words)
    return Seen(found.at, [Inner(words[found.at :])])


def builtin(words: list[Word]) -> Seen:
    at = 2 if len(words) > 1 and words[1].text == "--" else 1
    if at >= len(words):
        return _whole(words)
    if words[at].text.startswith("-"):
        raise Unknown("an option of other shells")
    return Seen(at, [Inner(words[at:])])


def trap(words: list[Word]) -> Seen:
    found = read_options(words, 1, Options("lp"))
    rest = words[found.at :]
    if found.has("l", "p") or len(rest) < 2 or rest[0].text in ("-", ""):
        return _whole(words)
    return Seen(len(words), [Inner(code=code_of(rest[0]))])


def alias(words: list[Word]) -> Seen:
    changing = any("=" in word.text or not word.exact for word in words[1:])
    return _whole(words, "an alias changes what a name runs" if changing else "")


def declare(words: list[Word]) -> Seen:
    names: list[str] = []
    lists = any(word.text[:1] == "-" and set(word.text) & set("aA") for word in words[1:])
    for word in words[1:]:
        text = word.text
        if text[:1] in ("-", "+"):
            if not word.exact or text.strip("-+xrgapf"):
                return _whole(words, "a declaration that is worked out")
            continue
        setting = _SETTING.match(text)
        if setting is not None and (text.startswith("(", setting.end()) or (lists and not word.exact)):
            return _whole(words, "a list whose subscripts may be worked out")
        name = setting.group(1) if setting is not None else text
        if setting is None and (not word.exact or not _NAME.match(name)):
            return _whole(words, WORKED_OUT)
        if setting is not None and not word.plain and not word.exact and word.splits:
            return _whole(words, WORKED_OUT)
        names.append(name)
    return _whole(words, names_problem(names))


def plain_names(words: list[Word]) -> Seen:
    """Arguments that are names of variables, or flags."""
    names = []
    for word in words[1:]:
        text = word.text
        if not word.exact:
            return _whole(words, WORKED_OUT)
        if text[:1] == "-":
            if text.strip("-fvnp"):
                return _whole(words, WORKED_OUT)
        elif _NAME.match(text):
            names.append(text)
        else:
            return _whole(words, WORKED_OUT)
    return _whole(words, names_problem(names))


def read(words: list[Word]) -> Seen:
    found = read_options(words, 1, Options("a:d:ei:n:N:p:rst:u:"))
    names = [value.text for value in found.values("a")]
    for word in words[found.at :]:
        if not word.exact or not _NAME.match(word.text):
            return _whole(words, WORKED_OUT)
        names.append(word.text)
    return _whole(words, names_problem(names))


def mapfile(words: list[Word]) -> Seen:
    found = read_options(words, 1, Options("d:n:O:s:tu:C:c:"))
    if found.has("C"):
        return _whole(words, "runs a command that its arguments hold")
    return read([words[0], *words[found.at :]])


def printf(words: list[Word]) -> Seen:
    if len(words) > 1 and (words[1].text.startswith("-") or not words[1].exact):
        if words[1].text == "--" and words[1].exact:
            return _whole(words)
        if (
            words[1].exact
            and words[1].text == "-v"
            and len(words) > 2
            and words[2].exact
            and _NAME.match(words[2].text)
        ):
            return _whole(words, names_problem([words[2].text]))
        if words[1].exact or words[1].splits:
            return _whole(words, WORKED_OUT)
        return _whole(words, WORKED_OUT if len(words) > 2 else "")
    return _whole(words)


def settings(words: list[Word]) -> Seen:
    """`set`: options that change how text is read are opaque."""
    at = 1
    while at < len(words):
        word = words[at]
        text = word.text
        if text in ("--", "-") and word.exact:
            return _whole(words)
        if text[:1] not in ("-", "+"):
            return _whole(words, "" if word.exact else "an option of the shell that is worked out")
        if not word.exact or not _SET_FLAGS.match(text):
            return _whole(words, "an option that changes how the shell reads")
        at += 1
        if text.endswith("o"):
            if at < len(words) and words[at].text not in _SET_NAMES:
                return _whole(words, "an option that changes how the shell reads")
            at += 1
    return _whole(words)


def shopt(words: list[Word]) -> Seen:
    changing = any(not word.exact or (word.text[:1] == "-" and set(word.text) & set("suo")) for word in words[1:])
    return _whole(words, "an option that changes how the shell reads" if changing else "")


def hashed(words: list[Word]) -> Seen:
    for word in words[1:]:
        if not word.exact or (word.text[:1] == "-" and "p" in word.text):
            return _whole(words, "changes what a name runs")
    return _whole(words)


def getopts(words: list[Word]) -> Seen:
    return plain_names([words[0], *words[2:3]])


def wait(words: list[Word]) -> Seen:
    if any(word.text.startswith("-") and "p" in word.text for word in words[1:]):
        return _whole(words, WORKED_OUT)
    return _whole(words)


def jobs(words: list[Word]) -> Seen:
    if len(words) > 2 and words[1].text == "-x":
        return Seen(2, [Inner(words[2:])])
    if any(not word.exact for word in words[1:]):
        return _whole(words, "an expansion may hold options or commands")
    return _whole(words)


def test(words: list[Word]) -> Seen:
    """`[` and `test`: -v works out a subscript, and an expansion may be that operator."""
    last = len(words) - (1 if words[0].text == "[" else 0)
    for number in range(1, last):
        word = words[number]
        if word.exact:
            if word.text in ("-v", "-R"):
                return _whole(words, WORKED_OUT)
            continue
        if word.splits and ("$" in word.text or "`" in word.text):
            return _whole(words, WORKED_OUT)
        before = words[number - 1].text if number > 1 else ""
        after = words[number + 1].text if number + 1 < last else ""
        if number + 1 < last and before not in _UNARY | _BINARY and after not in _BINARY:
            return _whole(words, WORKED_OUT)
    return _whole(words)


def constant(reason: str) -> Handler:
    def handler(words: list[Word]) -> Seen:
        return Seen(len(words), reason=reason)

    return handler


BUILTINS: dict[str, Handler] = {
    "eval": evaluate,
    "exec": execute,
    "command": command,
    "builtin": builtin,
    "trap": trap,
    "alias": alias,
    **dict.fromkeys(("declare", "typeset", "local", "export", "readonly"), declare),
    "unset": plain_names,
    "read": read,
    "mapfile": mapfile,
    "readarray": mapfile,
    "printf": printf,
    "set": settings,
    "shopt": shopt,
    "hash": hashed,
    "getopts": getopts,
    "wait": wait,
    "jobs": jobs,
    "test": test,
    "[": test,
    **{name: constant(reason) for name, reason in OPAQUE_BUILTINS.items()},
    **{name: constant("other shells read it as a word of their own") for name in OTHER_SHELLS_WORDS},
}
