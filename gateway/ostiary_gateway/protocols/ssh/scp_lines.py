"""The old protocol of scp, in its letters: the command that begins it, and its control lines. Pure.

Source: OpenSSH, scp.c (source, rsource, sink, response), which has it from rcp.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from dataclasses import dataclass
from typing import Final, Literal

from .sftp_paths import PathError, below, normal, plain_name
from .sftp_wire import MAX_PATH

MAX_LINE: Final = 8192

_FLAGS: Final = frozenset(b"rpdvqtf")
_WORD: Final = re.compile(rb"""(?:[^\s'"\\$`|&;<>(){}!#\x00-\x1f\x7f]|'[^'\x00]*'|"[^"\\$`!\x00]*"|\\[^\n\x00])+""")
_PATTERN: Final = re.compile(rb"[*?\[\]]")
_PIECE: Final = re.compile(rb"""'([^']*)'|"([^"]*)"|\\(.)|([^'"\\]+)""", re.DOTALL)
_FILE: Final = re.compile(rb"([CD])([0-7]{4}) (\d{1,19}) ([^\n]+)")
_TIMES: Final = re.compile(rb"T(\d{1,12}) (\d{1,6}) (\d{1,12}) (\d{1,6})")


class ScpError(Exception):
    """What no scp sends. The message says why."""


@dataclass(frozen=True, slots=True)
class ScpCommand:
    """`scp -t` (writes what it gets) or `scp -f` (sends what it reads), for one path."""

    upload: bool
    path: bytes
    """As it is given, quotes removed."""
    recursive: bool = False
    times: bool = False
    folder: bool = False
    """Writes only into a folder."""
    pattern: bool = False
    """The shell of the target makes the names from a pattern, which is only in the last part of the path."""


@dataclass(frozen=True, slots=True)
class Item:
    """A line that announces a file (C) or a folder (D)."""

    kind: Literal["C", "D"]
    mode: str
    size: int
    name: bytes


def scp_command(line: bytes) -> ScpCommand | None:
    """None if the line is anything else, or might be: then it is a command like others."""
    words: list[tuple[bytes, bool]] = []
    at = 0
    while at < len(line):
        if line[at : at + 1] == b" ":
            at += 1
            continue
        found = _WORD.match(line, at)
        if found is None or (found.end() < len(line) and line[found.end() : found.end() + 1] != b" "):
            return None
        unquoted = _unquoted(found.group())
        if unquoted is None:
            return None
        words.append(unquoted)
        at = found.end()
    if len(words) < 3 or words[0][1] or words[0][0] not in (b"scp", b"/usr/bin/scp", b"/bin/scp"):
        return None
    flags: set[int] = set()
    at = 1
    while at < len(words) and words[at][0].startswith(b"-") and words[at][0] != b"-":
        word, special = words[at]
        at += 1
        if word == b"--":
            break
        if special or not set(word[1:]) <= _FLAGS:
            return None
        flags |= set(word[1:])
    ways = flags & frozenset(b"tf")
    if len(ways) != 1 or len(words) != at + 1:
        return None
    upload = ways == frozenset(b"t")
    path, pattern = words[at]
    if not path or len(path) > MAX_PATH or path.startswith(b"~"):
        return None
    if pattern and (upload or _PATTERN.search(path.rpartition(b"/")[0])):
        return None
    has = {letter: ord(letter) in flags for letter in "rpd"}
    return ScpCommand(upload, path, has["r"], has["p"], has["d"], pattern)


def _unquoted(word: bytes) -> tuple[bytes, bool] | None:
    """A word as the program gets it, and whether a shell may make others of it. None if it is half a pattern."""
    found, special, quoted = bytearray(), False, False
    for piece in _PIECE.finditer(word):
        plain = piece[4]
        quoted = quoted or plain is None
        special = special or (plain is not None and _PATTERN.search(plain) is not None)
        found += next(each for each in piece.groups() if each is not None)
    # In a word with both, a quoted character would look like a part of the pattern.
    return None if special and quoted else (bytes(found), special)


def read_item(line: bytes) -> Item:
    """A line C or D, without its end."""
    found = _FILE.fullmatch(line)
    if found is None:
        raise ScpError("a line announces a file, and is not made like that")
    size, name = int(found[3]), found[4]
    if size >= 1 << 63 or (found[1] == b"D" and size):
        raise ScpError("a line announces a size that cannot be")
    if not plain_name(name):
        raise ScpError("a name may not be empty, `.`, `..`, hold a slash or be longer than 255 bytes")
    return Item("C" if found[1] == b"C" else "D", found[2].decode(), size, name)


def is_times(line: bytes) -> bool:
    """True if this is a line with times as it should be."""
    return _TIMES.fullmatch(line) is not None


def tidy(path: bytes) -> bytes:
    """Without what means nothing; a relative path stays one."""
    if path.startswith(b"/"):
        return normal(path, None)
    if b"\0" in path:
        raise PathError("a path may hold no NUL byte")
    return posixpath.normpath(path)


def first_places(command: ScpCommand, name: bytes) -> list[bytes]:
    """Where something announced first may be: of a path that might be a folder's as well as a file's, both."""
    path = tidy(command.path)
    if command.upload:
        inside = below(path, name) if path != b"." else name
        known = command.folder or command.path.endswith((b"/", b"/.", b"/..")) or path in (b".", b"..")
        return [inside] if known else [inside, path]
    folder, _, last = command.path.rstrip(b"/").rpartition(b"/")
    matches = fnmatch.fnmatchcase(name.decode("latin-1"), last.decode("latin-1")) if command.pattern else name == last
    if not matches:
        raise ScpError("the target sends a file that was not asked for")
    return [tidy(folder + b"/" + name)] if b"/" in command.path.rstrip(b"/") else [name]
