"""What a real shell runs for a line: in an empty directory, with programs that only write down how they were called.

Nothing of the machine is on the PATH but a few programs that run others; as root, the shell runs as nobody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STUBS = """
a b c d e f g h i j k ls cat rm grep tail head systemctl journalctl id tee touch mv cp chmod curl wget nginx
reboot ps df du kubectl docker git ssh su sudo doas who date hostname sort uniq wc base64 tr cut dd mkfs kill
sleep uname useradd mount umount chown ln mkdir rmdir shutdown halt diff python3 perl awk sed tar service apt-
get less vi make
"""
STUBS = tuple(_STUBS.split())
REAL = (
    "env", "nice", "nohup", "timeout", "xargs", "find", "setsid", "stdbuf", "bash", "sh", "dash", "ionice", "taskset",
    "chrt", "flock",
)  # fmt: skip
"""Programs that run others, which are on the PATH themselves; they write nothing down."""
_STUB = """#!/bin/sh
printf '%s\\0' "${{0##*/}}" "$@" '
' >> '{log}'
"""


@dataclass
class Shell:
    """A place to run lines in. `program`: the shell that reads them."""

    place: Path
    stubs: Path
    log: Path

    def run(self, line: str, program: str = "bash", stdin: bytes = b"") -> list[list[str]]:
        """The calls that the line made, in the order in which they began."""
        work = self.place / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        work.chmod(0o777)
        for old in self.log.parent.iterdir():
            old.unlink()
        shell = shutil.which(program)
        assert shell is not None
        root = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
        # Every process that the line starts holds the writing end, those in the background too.
        reading, writing = os.pipe()
        try:
            subprocess.run(
                [shell, "-c", line],
                env={"PATH": str(self.stubs), "HOME": str(work), "LC_ALL": "C.UTF-8"},
                cwd=work,
                input=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=20,
                pass_fds=(writing,),
                **root,  # type: ignore[call-overload]
            )
        finally:
            os.close(writing)
        with os.fdopen(reading, "rb") as ended:
            ended.read()
        if not self.log.exists():
            return []
        calls: list[list[str]] = [[]]
        for word in self.log.read_bytes().decode("utf-8", "replace").split("\0")[:-1]:
            if word == "\n":
                calls.append([])
            else:
                calls[-1].append(word)
        return calls[:-1]


@contextmanager
def shell() -> Iterator[Shell]:
    with tempfile.TemporaryDirectory(prefix="shell") as name:
        place = Path(name)
        place.chmod(0o755)
        stubs, logs = place / "bin", place / "log"
        stubs.mkdir()
        logs.mkdir()
        logs.chmod(0o777)
        stub = _STUB.format(log=logs / "calls")
        for each in STUBS:
            path = stubs / each
            path.write_text(stub)
            path.chmod(0o755)
        for each in REAL:
            found = shutil.which(each)
            if found is not None:
                (stubs / each).symlink_to(found)
        yield Shell(place, stubs, logs / "calls")
