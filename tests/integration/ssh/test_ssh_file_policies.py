"""Files through a gateway whose policies tell paths apart: what clients can do, are told, and what is recorded."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pytest
from support import ssh_gateway as gateways
from support import sshd as servers
from support.gateway import TOKEN
from support.ssh_gateway import SshGateway, policy, rule
from support.ssh_pairs import Side, through
from support.sshd import Sshd
from support.waiting import until

BULK = random.Random(11).randbytes(3_000_000)
LETTER = b"".join(b"line %d: write to someone%d@example.org, please\n" % (each, each % 10) for each in range(5_000))
HIDDEN = b"".join(b"line %d: write to [redacted]%s, please\n" % (each, b"*" * 10) for each in range(5_000))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files at the server: a public folder, one to write in, and a private one that links in the public one lead to."""
    found = tmp_path_factory.mktemp("files").resolve()
    for name in ("public", "drop", "private"):
        (found / name).mkdir()
    (found / "public/bulk").write_bytes(BULK)
    (found / "public/letter.txt").write_bytes(LETTER)
    (found / "public/deep").mkdir()
    (found / "public/deep/note").write_bytes(b"a note\n")
    (found / "private/key").write_bytes(b"the key\n")
    (found / "public/way").symlink_to("../private")
    (found / "public/innocent").symlink_to("../private/key")
    return found


def policies(place: Path) -> list[dict[str, Any]]:
    inside = f"(ssh.realPath + '/').startsWith('{place}/{{}}/')"
    files = "ssh.kind in ['sftp', 'scp']"
    return [
        policy(
            "files",
            rule("sessions", f"{files} && ssh.operation == 'session'"),
            rule("look", "ssh.kind == 'sftp' && ssh.operation in ['stat', 'realpath', 'readlink']"),
            rule("public", f"ssh.kind == 'sftp' && ssh.readOnly && {inside.format('public')}"),
            rule("drop", f"ssh.kind == 'sftp' && {inside.format('drop')} && (ssh.target == '' || "
                 f"ssh.operation == 'symlink' || (ssh.realTarget + '/').startsWith('{place}/drop/'))"),
            rule("old", f"ssh.kind == 'scp' && ssh.operation != 'session' && (ssh.path.startsWith('{place}/drop/') || "
                 f"ssh.readOnly && ssh.path.startsWith('{place}/public/'))"),
            rule("no-keys", "ssh.kind in ['sftp', 'scp'] && ssh.path.endsWith('/key')", "Deny",
                 message="Keys stay where they are.", hint="Ask for a certificate."),
            rule("asked", "ssh.kind in ['sftp', 'scp'] && ssh.path.endsWith('/asked')", "RequireApproval",
                 approval={"groups": ["ops"], "wait": "30s"}),
            rule("letters", "ssh.kind in ['sftp', 'scp'] && ssh.path.endsWith('.txt')", "Mask",
                 masking=[{"detector": "Email", "strategy": {"type": "Redact"}}]),
        ),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def target() -> Iterator[Sshd]:
    with servers.sshd() as found:
        yield found


@pytest.fixture(scope="module")
def gateway(target: Sshd, place: Path) -> Iterator[SshGateway]:
    with gateways.ssh_gateway(target, *policies(place), ssh={"fileContent": "Content"}) as found:
        yield found


@pytest.fixture
def side(gateway: SshGateway, tmp_path: Path) -> Side:
    return through(gateway, tmp_path)


@pytest.fixture(autouse=True)
def empty(place: Path) -> None:
    for path in (place / "drop").iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def by_paramiko(gateway: SshGateway) -> Iterator[paramiko.SFTPClient]:
    with socket.create_connection((gateway.host, gateway.port)) as sock, paramiko.Transport(sock) as transport:
        transport.connect(username=gateway.target.user, password=TOKEN)
        client = paramiko.SFTPClient.from_transport(transport)
        assert client is not None
        yield client


def requests(gateway: SshGateway, wanted: str, count: int = 1) -> list[dict[str, Any]]:
    """Records of requests whose line ends so, once there are so many that have ended."""
    found: list[dict[str, Any]] = []
    for _ in range(50):
        found = [each for each in gateway.records() if each["type"] == "request" and each["text"].endswith(wanted)]
        if len(found) >= count and all(each.get("ended") for each in found):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{wanted}: {found}")


def sftp(side: Side, *lines: str) -> tuple[int, bytes, bytes]:
    batch = "".join(f"-{line}\n" for line in lines).encode()
    done = side.tool("sftp", "-oBatchMode=no", "-b", "-", "target", stdin=batch, noted=False)
    return done.code, done.out, done.err


# -- clients


def test_paramiko_works_where_it_may(gateway: SshGateway, place: Path) -> None:
    with by_paramiko(gateway) as client:
        drop = f"{place}/drop"
        assert sorted(client.listdir(f"{place}/public")) == ["bulk", "deep", "innocent", "letter.txt", "way"]
        with client.open(f"{place}/public/bulk") as file:
            file.prefetch()
            assert file.read() == BULK
        with client.open(f"{place}/public/bulk") as file:
            assert file.readv([(5, 10), (2_000_000, 70_000), (0, 3)]).__next__() == BULK[5:15]
            file.seek(1_000_000)
            assert file.read(100) == BULK[1_000_000:1_000_100]
        with client.open(f"{drop}/new", "wx") as file:
            file.set_pipelined(True)
            file.write(BULK)
        assert client.stat(f"{drop}/new").st_size == len(BULK)
        with client.open(f"{drop}/new", "r+") as file:
            file.truncate(1000)
            file.seek(990)
            file.write(b"0123456789abc")
        assert (place / "drop/new").read_bytes() == BULK[:990] + b"0123456789abc"
        with client.open(f"{drop}/new", "a") as file:
            file.write(b"more")
        assert (place / "drop/new").read_bytes().endswith(b"abcmore")
        client.chmod(f"{drop}/new", 0o640)
        client.utime(f"{drop}/new", (1, 2))
        client.mkdir(f"{drop}/folder")
        client.rename(f"{drop}/new", f"{drop}/folder/old")
        client.posix_rename(f"{drop}/folder/old", f"{drop}/folder/older")
        client.symlink("older", f"{drop}/folder/link")
        assert client.readlink(f"{drop}/folder/link") == "older"
        assert (place / "drop/folder/link").readlink() == Path("older")
        assert client.lstat(f"{drop}/folder/link").st_mode != client.stat(f"{drop}/folder/link").st_mode
        client.remove(f"{drop}/folder/link")
        client.remove(f"{drop}/folder/older")
        client.rmdir(f"{drop}/folder")
        assert client.listdir(drop) == []


def test_asyncssh_works_where_it_may(gateway: SshGateway, place: Path, tmp_path: Path) -> None:
    async def play() -> None:
        drop = f"{place}/drop"
        async with (
            asyncssh.connect(
                gateway.host, gateway.port, username=gateway.target.user, password=TOKEN, known_hosts=None
            ) as connection,
            connection.start_sftp_client() as client,
        ):
            assert client.version == 3
            await client.get(f"{place}/public/bulk", tmp_path / "bulk")
            assert (tmp_path / "bulk").read_bytes() == BULK
            await client.put(tmp_path / "bulk", f"{drop}/up", max_requests=64)
            assert (place / "drop/up").read_bytes() == BULK
            await client.get(f"{place}/public/deep", tmp_path / "deep", recurse=True)
            assert (tmp_path / "deep/note").read_bytes() == b"a note\n"
            assert await client.glob(f"{place}/public/de*") == [f"{place}/public/deep"]
            await client.link(f"{drop}/up", f"{drop}/hard")
            await client.symlink("up", f"{drop}/soft")
            assert (place / "drop/soft").readlink() == Path("up")
            assert await client.readlink(f"{drop}/soft") == "up"
            await client.copy(f"{drop}/up", f"{drop}/copied", remote_only=True)
            assert (place / "drop/copied").read_bytes() == BULK
            assert (await client.statvfs(drop)).bsize
            await client.rename(f"{drop}/hard", f"{drop}/other")
            await client.setstat(f"{drop}/other", asyncssh.SFTPAttrs(permissions=0o600))
            await client.rmtree(drop, ignore_errors=True)
            assert not (place / "drop/up").exists()
            with pytest.raises(asyncssh.SFTPPermissionDenied, match="ostiary: Keys stay where they are"):
                await client.open(f"{place}/private/key")

    asyncio.run(play())
    (place / "drop").mkdir(exist_ok=True)


def test_sftp_and_scp_of_openssh_work_where_they_may(side: Side, place: Path) -> None:
    (side.directory / "up").write_bytes(BULK)
    code, _, err = sftp(side, f"get {place}/public/bulk down", f"put up {place}/drop/up", f"ls -l {place}/public")
    assert (code, err) == (0, b"")
    assert (side.directory / "down").read_bytes() == BULK
    for old in ((), ("-O",)):
        copied = side.tool("scp", *old, "-r", f"target:{place}/public/deep", f"back{len(old)}", noted=False)
        assert (copied.code, copied.err) == (0, b"")
        copied = side.tool("scp", *old, "up", f"target:{place}/drop/", noted=False)
        assert (copied.code, copied.err) == (0, b"")
        assert (place / "drop/up").read_bytes() == BULK
        assert (side.directory / f"back{len(old)}/note").read_bytes() == b"a note\n"


# -- refusals


def test_every_client_can_read_why_it_is_refused(gateway: SshGateway, side: Side, place: Path) -> None:
    key = place / "private/key"
    with by_paramiko(gateway) as client, pytest.raises(PermissionError, match="ostiary: Keys stay where they are"):
        client.open(str(key))
    _, _, err = sftp(side, f"get {key} key", f"get {place}/public/deep/note note")
    assert b"ostiary: Keys stay where they are." in err
    assert b"not found" in err
    assert (side.directory / "note").exists(), "the session goes on"
    copied = side.tool("scp", f"target:{key}", "key", noted=False)
    assert copied.code == 1
    assert b"ostiary: Keys stay where they are." in copied.err
    copied = side.tool("scp", "-O", f"target:{key}", f"target:{place}/public/deep/note", ".", noted=False)
    assert copied.code == 1
    assert b"scp: ostiary: Keys stay where they are." in copied.err
    copied = side.tool("scp", "-O", "note", f"target:{place}/public/", noted=False)
    assert copied.code == 1
    assert b"scp: ostiary: " in copied.err
    assert not (side.directory / "key").exists()
    assert not (place / "public/note").exists()


@pytest.mark.parametrize("path", ["innocent", "way/key", "way/../way/key", "deep/../innocent"])
def test_a_link_leads_no_further_than_its_end_may(gateway: SshGateway, place: Path, path: str) -> None:
    with by_paramiko(gateway) as client:
        with pytest.raises(PermissionError, match="ostiary: "):
            client.open(f"{place}/public/{path}")
        with pytest.raises(PermissionError, match="ostiary: "):
            client.listdir(f"{place}/public/way")


def test_a_link_that_an_agent_makes_leads_no_further_either(gateway: SshGateway, place: Path) -> None:
    with by_paramiko(gateway) as client:
        client.symlink("../private", f"{place}/drop/mine")
        for attempt in (
            lambda: client.open(f"{place}/drop/mine/new", "w"),
            lambda: client.remove(f"{place}/drop/mine/key"),
            lambda: client.rename(f"{place}/drop/mine/key", f"{place}/drop/x"),
            lambda: client.mkdir(f"{place}/drop/mine/d"),
            lambda: client.chmod(f"{place}/drop/mine", 0o777),
        ):
            with pytest.raises(PermissionError, match="ostiary: "):
                attempt()
        client.remove(f"{place}/drop/mine")
    assert [path.name for path in (place / "private").iterdir()] == ["key"]


# -- masks


def test_what_is_found_in_a_letter_is_hidden_for_every_client(gateway: SshGateway, side: Side, place: Path) -> None:
    letter = f"{place}/public/letter.txt"
    with by_paramiko(gateway) as client:
        with client.open(letter) as file:
            file.prefetch()
            assert file.read() == HIDDEN
        with client.open(letter) as file:
            file.seek(20)
            assert file.read(20) == HIDDEN[20:40]
    for number, command in enumerate((["scp"], ["scp", "-O"])):
        done = side.tool(*command, f"target:{letter}", f"letter{number}", noted=False)
        assert done.code == 0
        assert (side.directory / f"letter{number}").read_bytes() == HIDDEN


# -- records


def test_the_record_tells_each_file_with_its_digest(gateway: SshGateway, side: Side, place: Path) -> None:
    (side.directory / "one").write_bytes(BULK)
    (side.directory / "two").write_bytes(b"two")
    sftp(side, f"put one {place}/drop/recorded", f"get {place}/drop/recorded x", f"get {place}/private/key y")
    side.tool("scp", "-O", "two", f"target:{place}/drop/", noted=False)
    digest = hashlib.sha256(BULK).hexdigest()
    (written,) = requests(gateway, "sftp write " + f"{place}/drop/recorded mode=0644")
    assert written["outcome"] == "ok"
    assert (written["result"]["writtenBytes"], written["result"]["writtenSha256"]) == (len(BULK), digest)
    (read,) = requests(gateway, f"sftp read {place}/drop/recorded")
    assert (read["result"]["readBytes"], read["result"]["readSha256"]) == (len(BULK), digest)
    denied = requests(gateway, f"sftp read {place}/private/key")[-1]
    assert denied["outcome"] == "denied"
    (old,) = requests(gateway, f"scp write {place}/drop/two (3 bytes)")
    assert old["result"]["sha256"] == hashlib.sha256(b"two").hexdigest()


def test_the_record_keeps_content_as_the_agent_saw_it(gateway: SshGateway, side: Side, place: Path) -> None:
    (place / "public/kept.txt").write_bytes(b"write to someone@example.org\n")
    sftp(side, f"get {place}/public/kept.txt kept")
    (read,) = requests(gateway, f"sftp read {place}/public/kept.txt")
    shown = gateway.run("session", read["session"])
    assert "[redacted]*********" in shown
    assert "someone@example.org" not in shown


# -- approvals


def approved(gateway: SshGateway, text: str) -> None:
    def asked() -> str | None:
        for line in gateway.run("approvals", "--json").splitlines():
            found = json.loads(line)["approval"]
            waits = not found.get("status", {}).get("consumedAt")
            if waits and text in found["spec"]["request"]["summary"]:
                return str(found["metadata"]["name"])
        return None

    gateway.run("approve", until(asked, f"{text} is asked about"))


@pytest.mark.parametrize("command", [["scp"], ["scp", "-O"]], ids=["new", "old"])
def test_a_file_waits_for_a_person_and_then_goes_on(
    gateway: SshGateway, side: Side, place: Path, command: list[str]
) -> None:
    (side.directory / "asked").write_bytes(BULK)
    with ThreadPoolExecutor(1) as threads:
        copying = threads.submit(side.tool, *command, "asked", f"target:{place}/drop/", noted=False)
        approved(gateway, f"write {place}/drop/asked")
        done = copying.result(30)
    assert done.code == 0, done.err
    assert b"Waiting up to 30 s for approval" in done.err
    assert (place / "drop/asked").read_bytes() == BULK
