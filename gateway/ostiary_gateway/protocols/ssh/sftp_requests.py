"""What a request of SFTP asks for: its operation, the paths that it acts on, and how it is sent on. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from . import sftp_wire as wire
from .sftp_paths import PathError, normal, parted, text
from .sftp_wire import Fields, SftpError

COPY_DATA: Final = b"copy-data"
EXPAND: Final = b"expand-path@openssh.com"
FSTATVFS: Final = b"fstatvfs@openssh.com"
FSYNC: Final = b"fsync@openssh.com"
HARDLINK: Final = b"hardlink@openssh.com"
HOME: Final = b"home-directory"
LIMITS: Final = b"limits@openssh.com"
LSETSTAT: Final = b"lsetstat@openssh.com"
RENAME: Final = b"posix-rename@openssh.com"
STATVFS: Final = b"statvfs@openssh.com"
USERS: Final = b"users-groups-by-id@openssh.com"
EXTENSIONS: Final = frozenset((
    COPY_DATA, EXPAND, FSTATVFS, FSYNC, HARDLINK, HOME, LIMITS, LSETSTAT, RENAME, STATVFS, USERS,
))  # fmt: skip
"""What is understood, and so may be offered to clients."""


class Unknown(SftpError):
    """A request that this gateway does not understand. It goes nowhere."""


class NoSuchFile(SftpError):
    """An empty path: what POSIX says of it."""


Part = bytes | int
"""Of a packet: bytes as they are, or the path of this number as a string."""


@dataclass(slots=True)
class Call:
    """One request. `parts` are its fields behind the id."""

    kind: int
    ident: int
    operation: str
    """As the fact; empty: it is about an open handle, and nobody is asked."""
    parts: tuple[Part, ...] = ()
    paths: list[bytes] = field(default_factory=list)
    """What it acts on: absolute and normal."""
    follows: bool = True
    """Whether a symbolic link at the end of the path is followed."""
    handles: tuple[bytes, ...] = ()
    looks: list[tuple[bytes, bool]] = field(default_factory=list)
    """The one or two paths that can be resolved, and whether a link at their end is followed."""
    read_only: bool = False
    quiet: bool = False
    target: str = ""
    """The fact, where it is not the second path."""
    path: str = ""
    """The fact, where it is none of the paths."""
    sent: bytes = b""
    """The first path, as it has gone on."""
    flags: int = 0
    """Of OPEN."""
    attributes: dict[str, object] = field(default_factory=dict)
    extension: bytes = b""
    opaque: str = ""

    def packet(self, paths: list[bytes]) -> bytes:
        return wire.request(
            self.kind, self.ident,
            *(wire.string(paths[part]) if isinstance(part, int) else part for part in self.parts),
        )  # fmt: skip

    @property
    def exact(self) -> bytes:
        """What it is, without its id."""
        sent = self.packet(self.paths)
        return sent[4:5] + sent[9:]

    def facts(self) -> dict[str, object]:
        shown = [text(path) for path in self.paths]
        found: dict[str, object] = {
            "kind": "sftp", "operation": self.operation, "readOnly": self.read_only,
            "path": shown[0][0] if shown else self.path,
            "target": shown[1][0] if len(shown) > 1 else self.target,
        }  # fmt: skip
        why = next((why for _, why in shown if why), self.opaque)
        if why:
            found["opaque"], found["opaqueReason"] = True, why
        return found

    def line(self) -> str:
        """One line for people and for the record."""
        facts = self.facts()
        words = [f"sftp {self.operation} {facts['path']}"]
        if facts["target"]:
            words.append(f"to {facts['target']}")
        words += [f"{name}={value}" for name, value in self.attributes.items()]
        return " ".join(words).strip()


def read_request(data: bytes, home: bytes | None) -> Call:
    """The request of one packet.

    Raises SftpError, of which PathError is none: that is raised for a path that cannot be passed on.
    """
    kind = data[4]
    fields = Fields(data, 5)
    ident = fields.u32()
    call = Call(kind, ident, "")
    read = _READERS.get(kind)
    if read is not None:
        operation, read_only, quiet, follows = read
        path = _path(fields.string(), home, empty=kind == wire.REALPATH)
        call.operation, call.read_only, call.quiet, call.follows = operation, read_only, quiet, follows
        call.paths = [path]
        tail = fields.rest()
        if kind in (wire.SETSTAT, wire.MKDIR):
            call.attributes = fields.attributes()
        call.parts = (0, tail)
    elif kind == wire.OPEN:
        _open(call, fields, home)
    elif kind in (wire.CLOSE, wire.FSTAT, wire.READDIR, wire.FSETSTAT):
        call.handles = (fields.string(),)
        tail = fields.rest()
        if kind == wire.FSETSTAT:
            call.operation = "setstat"
            call.attributes = fields.attributes()
        call.parts = (wire.string(call.handles[0]), tail)
    elif kind == wire.RENAME:
        _two(call, fields, home, "rename")
    elif kind == wire.SYMLINK:
        _symlink(call, fields, home)
    elif kind == wire.EXTENDED:
        _extended(call, fields, home)
    else:
        raise Unknown(f"there is no request of type {kind} in version 3")
    fields.end()
    call.looks[:0] = [(path, call.follows) for path in call.paths]
    return call


_READERS: Final[dict[int, tuple[str, bool, bool, bool]]] = {
    # operation, whether it only reads, whether it makes no record of its own, whether it follows a link
    wire.LSTAT: ("stat", True, True, False),
    wire.STAT: ("stat", True, True, True),
    wire.SETSTAT: ("setstat", False, False, True),
    wire.OPENDIR: ("list", True, False, True),
    wire.REMOVE: ("remove", False, False, False),
    wire.MKDIR: ("mkdir", False, False, False),
    wire.RMDIR: ("rmdir", False, False, False),
    wire.REALPATH: ("realpath", True, True, True),
    wire.READLINK: ("readlink", True, True, False),
}


def _path(path: bytes, home: bytes | None, *, empty: bool = False) -> bytes:
    if not path:
        if not empty:
            raise NoSuchFile("an empty path names nothing")
        path = b"."
    return normal(path, home)


def _open(call: Call, fields: Fields, home: bytes | None) -> None:
    call.paths = [_path(fields.string(), home)]
    tail = fields.rest()
    flags = call.flags = fields.u32()
    call.attributes = fields.attributes()
    call.parts = (0, tail)
    if flags & ~wire.FLAGS:
        raise SftpError(f"there is no way to open a file with the flags {flags:#x}")
    reads = bool(flags & wire.F_READ) or not flags & (wire.F_WRITE | wire.F_APPEND)
    writes = bool(flags & ~wire.F_READ)
    if reads and writes:
        call.operation = "readwrite"
    elif reads:
        call.operation, call.read_only = "read", True
    else:
        call.operation = "append" if flags & wire.F_APPEND and not flags & wire.F_TRUNC else "write"


def _two(call: Call, fields: Fields, home: bytes | None, operation: str) -> None:
    call.operation, call.follows = operation, False
    call.paths = [_path(fields.string(), home), _path(fields.string(), home)]
    call.parts = (*call.parts, 0, 1)


def _symlink(call: Call, fields: Fields, home: bytes | None) -> None:
    # The draft has them the other way round. Whoever cares looks for OpenSSH in the peer's version line, which the
    # gateway's has on both legs.
    points, link = fields.string(), fields.string()
    call.operation, call.follows = "symlink", False
    call.paths = [_path(link, home)]
    if not points:
        raise NoSuchFile("a link to nothing cannot be")
    # What a link holds is kept as it is sent; the fact says where that leads.
    leads = normal(points, parted(call.paths[0])[0])
    call.looks.append((leads, True))
    call.target, call.opaque = text(leads)
    call.parts = (wire.string(points), 0)


def _extended(call: Call, fields: Fields, home: bytes | None) -> None:
    name = call.extension = fields.string()
    call.parts = (wire.string(name),)
    if name == RENAME:
        _two(call, fields, home, "rename")
    elif name == HARDLINK:
        _two(call, fields, home, "link")
    elif name in (STATVFS, LSETSTAT):
        call.paths = [_path(fields.string(), home)]
        tail = fields.rest()
        if name == STATVFS:
            call.operation, call.read_only, call.quiet = "statvfs", True, True
        else:
            call.operation, call.follows = "setstat", False
            call.attributes = fields.attributes()
        call.parts = (*call.parts, 0, tail)
    elif name in (FSTATVFS, FSYNC):
        call.handles = (fields.string(),)
        call.parts = (*call.parts, wire.string(call.handles[0]))
    elif name == LIMITS:
        pass
    elif name == COPY_DATA:
        _copy(call, fields)
    elif name in (EXPAND, HOME):
        _expanded(call, fields)
    elif name == USERS:
        ids = fields.string(), fields.string()
        if len(ids[0]) % 4 or len(ids[1]) % 4:
            raise SftpError("its lists of ids are no lists of numbers")
        call.parts = (*call.parts, *map(wire.string, ids))
    else:
        raise Unknown(f"the extension {wire.visible_name(name)[:100]} is not known to this gateway")


def _copy(call: Call, fields: Fields) -> None:
    source, start = fields.string(), fields.at
    fields.u64()
    fields.u64()
    ranges = fields.data[start : fields.at]
    to = fields.string()
    where = fields.data[fields.at :]
    fields.u64()
    call.operation, call.handles = "copy-data", (source, to)
    call.parts = (*call.parts, wire.string(source), ranges, wire.string(to), where)


def _expanded(call: Call, fields: Fields) -> None:
    """What only the target can make a path of: `~` and users' names. The fact has it as it is sent."""
    named = fields.string()
    if b"\0" in named or len(named) > wire.MAX_PATH:
        raise PathError(f"a path may hold no NUL byte, and have at most {wire.MAX_PATH} bytes")
    call.read_only = call.quiet = True
    if call.extension == EXPAND:
        call.operation = EXPAND.decode()
        call.path, call.opaque = text(named)
    else:
        call.operation = "home-directory"
        call.path, call.opaque = text(b"~" + named)
    call.parts = (*call.parts, wire.string(named))
