"""Files over ssh: sftp, scp by both of its protocols, and rsync do what they do at the server itself."""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ssh_gateway as gateways
from support import sshd as servers
from support.presence import missing
from support.ssh_pairs import Side, direct, same, through

pytestmark = pytest.mark.clients

Sides = tuple[Side, Side]
BULK = random.Random(9).randbytes(1_000_000)
BIG = 64_000_000
TREE = {
    "plain.txt": b"some text\n",
    "empty": b"",
    "with space and 'quote'": b"x",
    "Grüße.txt": "Grüße\n".encode(),
    "deep/er/still": BULK,
    "deep/script": b"#!/bin/sh\n",
}


# Otherwise `-b` of sftp and `-3` of scp keep ssh from asking for the secret.
ASKING = ("-o", "BatchMode=no")
BATCH = (*ASKING, "-b", "-")


def plant(place: Path) -> None:
    """The same files with the same modes and times, wherever they are needed."""
    for name, content in TREE.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o640)
        os.utime(path, (1_600_000_000, 1_600_000_001))
    (place / "deep/script").chmod(0o755)
    (place / "link").symlink_to("plain.txt")


def sftp(side: Side, *lines: str, keep_on: bool = True) -> None:
    """A batch; a line that begins with `-` may fail."""
    sign = "-" if keep_on else ""
    batch = "".join(f"{sign}{line}\n" for line in (f"cd {side.remote}", f"lcd {side.directory}", *lines))
    side.tool("sftp", *BATCH, "target", stdin=batch.encode())


def sftp_batches(side: Side) -> None:
    plant(side.directory / "tree")
    plant(side.remote / "there")
    sftp(side, "pwd", "mkdir made", "put tree/plain.txt made/up.txt", "get made/up.txt down.txt", "ls", "ls -1 made")
    sftp(side, "rename made/up.txt made/moved", "ln -s moved made/soft", "ln made/moved made/hard")
    sftp(side, "chmod 600 made/moved", "chgrp 0 there/empty", "chown 0 there/empty", "chmod 700 there/empty")
    sftp(side, "ls -ln made", "rm made/hard", "rmdir made", "rm made/soft", "rm made/moved", "rmdir made", "ls")
    sftp(side, "put -r tree", "put -rp tree kept", "get -r there", "get -rp there preserved", "ls -1 tree/deep")
    sftp(side, "get missing", "put missing", "rm missing", "rmdir missing", "mkdir there", "cd missing", "ls missing")
    sftp(side, "put missing", "pwd", keep_on=False)
    sftp(side, 'get "there/with space and \'quote\'" odd', "get there/Grüße.txt", "get there/*.txt .", "ls there/d*")
    sftp(side, "get /etc/hostname")
    side.tree(side.directory / "there")
    side.tree(side.directory / "preserved")
    side.tree(side.remote)


def sftp_space(side: Side) -> None:
    """Free space changes while one looks: only that it is told counts."""
    batch = f"df {side.remote}\n".encode()
    done = side.tool("sftp", *BATCH, "target", stdin=batch, noted=False)
    side.remark((done.code, done.text.splitlines()[1].split()[0], done.err))


def sftp_goes_on_where_it_stopped(side: Side) -> None:
    side.there("half", BULK[:400_000])
    side.file("whole", BULK)
    sftp(side, "reput whole half")
    side.there("other", BULK)
    side.file("part", BULK[:123])
    sftp(side, "reget other part")
    side.tree(side.remote)
    side.remark(hashlib.sha256((side.directory / "part").read_bytes()).hexdigest())


def sftp_with_other_sizes(side: Side) -> None:
    side.there("data", BULK)
    for options in (["-B", "512", "-R", "4"], ["-B", "260000", "-R", "128"]):
        batch = f"get {side.remote}/data back\nput back {side.remote}/again\n".encode()
        side.tool("sftp", *BATCH, *options, "target", stdin=batch)
        assert (side.remote / "again").read_bytes() == BULK


def scp(side: Side, *protocol: str) -> None:
    plant(side.directory / "tree")
    side.tool("scp", *protocol, "-q", "tree/plain.txt", f"target:{side.remote}/up")
    side.tool("scp", *protocol, "-q", f"target:{side.remote}/up", "down")
    side.tool("scp", *protocol, "-q", "-r", "-p", "tree", f"target:{side.remote}")
    side.tool("scp", *protocol, "-q", "-r", "-p", f"target:{side.remote}/tree", "back")
    side.tool("scp", *protocol, "-q", f"target:{side.remote}/tree/*.txt", f"target:{side.remote}/tree/empty", ".")
    side.tool("scp", *protocol, "-q", "tree/plain.txt", "tree/empty", f"target:{side.remote}/tree/deep")
    side.tool("scp", *protocol, "-q", f"target:{side.remote}/missing", ".")
    side.tool("scp", *protocol, "-q", "tree/plain.txt", f"target:{side.remote}/no/such/place")
    side.tool("scp", *protocol, "-q", "-r", "tree/deep", f"target:{side.remote}/up")
    side.tool("scp", *ASKING, *protocol, "-q", "-3", f"target:{side.remote}/up", f"target:{side.remote}/copied")
    side.tree(side.directory / "back")
    side.tree(side.remote)


def scp_new(side: Side) -> None:
    scp(side)


def scp_old(side: Side) -> None:
    scp(side, "-O")


def rsync(side: Side) -> None:
    if shutil.which("rsync") is None:
        missing("rsync is not here: apt-get install -y rsync")
    shell = shlex.join(["ssh", "-F", str(side.config)])
    plant(side.directory / "tree")
    there = f"target:{side.remote}"

    def run(*arguments: str) -> None:
        side.run(["rsync", "-e", shell, "--itemize-changes", *arguments])

    run("-a", "tree/", f"{there}/up/")
    run("-a", "tree/", f"{there}/up/")
    run("-az", f"{there}/up/", "down/")
    (side.directory / "tree/plain.txt").write_text("changed\n")
    (side.directory / "tree/empty").unlink()
    big = side.directory / "tree/deep/er/still"
    big.write_bytes(BULK[:500_000] + b"in the middle" + BULK[500_000:])
    run("-a", "--delete", "tree/", f"{there}/up/")
    run("-a", "--delete", "--checksum", f"{there}/up/", "down/")
    run("-a", "--dry-run", f"{there}/up/", "nowhere/")
    run("--list-only", f"{there}/up/deep/script")
    run("-a", f"{there}/missing", "down/")
    side.tree(side.directory / "down")
    side.tree(side.remote)


ALL = (
    sftp_batches, sftp_space, sftp_goes_on_where_it_stopped, sftp_with_other_sizes, scp_new, scp_old, rsync,
)  # fmt: skip


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.__name__)
def test_it_is_as_directly(scenario: object, sides: Sides) -> None:
    same(scenario, *sides)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("big") / "big"
    path.write_bytes(random.Random(10).randbytes(BIG))
    yield path
    path.unlink()


@pytest.mark.parametrize("way", ["scp", "scp -O", "rsync", "exec"])
def test_a_big_file_arrives_as_it_was(way: str, sides: Sides, big: Path) -> None:
    _, side = sides
    there = f"{side.remote}/big"
    if way == "exec":
        done = side.ssh("target", f"cat >{there}", stdin=big.read_bytes(), noted=False)
        back = side.ssh("target", f"cat {there}", noted=False)
        (side.directory / "back").write_bytes(back.out)
    else:
        program, *options = way.split()
        more = ["-e", shlex.join(["ssh", "-F", str(side.config)])] if program == "rsync" else ["-F", str(side.config)]
        done = side.run([program, *more, *options, "-q", str(big), f"target:{there}"], noted=False)
        back = side.run([program, *more, *options, "-q", f"target:{there}", "back"], noted=False)
    assert (done.code, done.err, back.code, back.err) == (0, b"", 0, b"")
    wanted = hashlib.sha256(big.read_bytes()).digest()
    assert hashlib.sha256(Path(there).read_bytes()).digest() == wanted
    assert hashlib.sha256((side.directory / "back").read_bytes()).digest() == wanted
    Path(there).unlink()


def test_a_server_with_a_program_for_sftp(tmp_path: Path) -> None:
    with servers.sshd("outside", sftp=servers.SFTP_SERVER) as server, gateways.ssh_gateway(server) as gateway:
        same(sftp_batches, direct(server, tmp_path), through(gateway, tmp_path))
