"""Paths as SFTP and scp send them: absolute and normal, or refused. Pure."""

from __future__ import annotations

import posixpath
from typing import Final

from .sftp_wire import MAX_PATH

MAX_NAME: Final = 255
"""Bytes of one name (NAME_MAX)."""


class PathError(Exception):
    """A path that is not passed on. The message says why."""


def normal(path: bytes, home: bytes | None) -> bytes:
    """Absolute, without `.`, `..`, `//` and a slash at the end, by its letters alone. `home`: what relative ones begin
    at; None: not known."""
    if b"\0" in path:
        raise PathError("a path may hold no NUL byte")
    if not path.startswith(b"/"):
        if home is None:
            raise PathError("the target does not tell where relative paths begin; send an absolute one")
        path = home + b"/" + path
    if len(path) > MAX_PATH:
        raise PathError(f"a path may have at most {MAX_PATH} bytes")
    # POSIX lets two slashes at the beginning mean something of their own; on the targets that there are they do not.
    return b"/" + posixpath.normpath(path).lstrip(b"/")


def text(path: bytes) -> tuple[str, str]:
    """A path as a fact, and why it cannot be read as text; empty if it can."""
    try:
        return path.decode(), ""
    except UnicodeDecodeError:
        return path.decode("utf-8", "backslashreplace"), "the path is no UTF-8"


def below(folder: bytes, name: bytes) -> bytes:
    return folder.rstrip(b"/") + b"/" + name


def parted(path: bytes) -> tuple[bytes, bytes]:
    """The folder that holds it and its name there; the name of `/` is empty."""
    folder, _, name = path.rpartition(b"/")
    return folder or b"/", name


def plain_name(name: bytes) -> bool:
    """True if it names something in its folder, and nothing else."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name and len(name) <= MAX_NAME
