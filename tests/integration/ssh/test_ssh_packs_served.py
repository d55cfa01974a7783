"""Each pack for SSH as it is, before a real sshd, with OpenSSH's clients: what it stops does not happen."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.packs import ALLOWING, labels, pack
from support.ssh_gateway import ALLOW_ALL, connection, prepare, secrets_for
from support.ssh_pairs import Side, through
from support.sshd import Sshd

Serve = Callable[..., Side]


@pytest.fixture(scope="module")
def serve(target: Sshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """An agent at a gateway with these packs in force; beside them everything is allowed, unless one of them allows."""
    with ExitStack() as stack:

        def start(*names: str) -> Side:
            policies = [pack(name) for name in names]
            for policy in policies:
                for rule in policy["spec"]["rules"]:
                    if "approval" in rule:
                        rule["approval"]["wait"] = "0s"  # nobody is there to decide
            if not set(names) & set(ALLOWING):
                policies.append(ALLOW_ALL)
            gateway = prepare(target)
            host = connection(target, gateway.port)
            metadata = {"name": "host", "labels": labels(*names)}
            gateway.write({**host, "metadata": metadata}, *secrets_for(target), *policies)
            stack.callback(gateway.destroy)
            gateway.start()
            return through(gateway, tmp_path_factory.mktemp(names[0]))

        yield start


@pytest.fixture
def kept(target: Sshd) -> Path:
    """A file outside of the places where agents may work."""
    path = target.files / "kept" / "file"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("kept, card 4111 1111 1111 1111, ada@example.com\n")
    return path


def denied(side: Side, *arguments: str, rule: str, stdin: bytes = b"") -> None:
    done = side.ssh("target", *arguments, stdin=stdin)
    assert done.code == 126, (arguments, done)
    assert f"#{rule})" in done.said, done.said


def test_no_destructive_commands(serve: Serve, kept: Path) -> None:
    side = serve("ssh-no-destructive-commands")
    for line in (
        f"rm {kept}", f"sh -c 'rm -f {kept}'", f"env A=1 nice rm {kept}", f": > {kept}", f"echo x | tee {kept}",
        f"mv {kept} /tmp/", f"dd if=/dev/null of={kept}", f"cp /dev/null {kept}", f"truncate -s 0 {kept}",
        f"sed -i s/kept/gone/ {kept}", f'ls "$(rm {kept})"', f"rm /tmp/..{kept}", f"ln -sf /dev/null {kept}",
    ):  # fmt: skip
        denied(side, line, rule="only-here")
    denied(side, f"echo rm {kept} | sh", rule="no-opaque")
    denied(side, f"ls {kept} | xargs rm", rule="no-sweeping")
    denied(side, f"find {kept.parent} -delete", rule="no-sweeping")
    denied(side, f"cd {kept.parent} && rm file", rule="no-moving")
    denied(side, f"rm {kept.parent}/*", rule="no-guessing")
    denied(side, "/usr/lib/openssh/sftp-server", rule="no-way-around")
    denied(side, stdin=f"rm {kept}\n".encode(), rule="no-shell")
    assert side.tool("scp", str(side.file("x", b"x")), f"target:{kept}").code
    assert side.tool("scp", "-O", str(side.file("x", b"x")), f"target:{kept}").code
    assert kept.read_text().startswith("kept")
    scratch = Path(f"/tmp/ostiary-pack-{kept.parent.parent.name}-{side.port}")
    assert side.ok(f"mkdir {scratch} && echo x > {scratch}/x && cat {kept}").text.startswith("kept")
    assert side.tool("scp", str(side.file("x", b"x")), f"target:{scratch}/y").code == 0
    side.ok(f"rm -r {scratch}")
    assert not scratch.exists()


def test_allow_listed_programs(serve: Serve, kept: Path) -> None:
    side = serve("ssh-allow-listed-programs")
    assert side.ok(f"cat {kept} | head -c 4; echo; uname -s").text == "kept\nLinux\n"
    other = kept.parent / "ls"
    shutil.copy("/bin/true", other)
    for line in (f"touch {kept}2", f"{other}", f"cat {kept} > {kept}2", f"ls; touch {kept}2", f"ls $(touch {kept}2)"):
        denied(side, line, rule="only-listed")
    for line in (f"PATH={kept.parent}:$PATH ls", "echo ls | sh", "LD_PRELOAD=/x ls"):
        denied(side, line, rule="no-opaque")
    denied(side, rule="no-shell")
    assert sorted(path.name for path in kept.parent.iterdir()) == ["file", "ls"]
    other.unlink()


def test_read_only_sftp(serve: Serve, kept: Path) -> None:
    side = serve("ssh-read-only-sftp")
    place = Path(f"/tmp/ostiary-pack-{side.port}")
    place.mkdir()
    try:
        shutil.copy(kept, place / "file")
        (place / "key.pem").write_text("secret")
        (place / "link").symlink_to(place / "key.pem")
        assert side.tool("scp", f"target:{place}/file", "got").code == 0
        assert (side.directory / "got").read_text() == kept.read_text()
        for name in ("key.pem", "link", "../etc/shadow"):
            assert side.tool("scp", f"target:{place}/{name}", "stolen").code == 1
        asked = (f"rm {place}/file", f"rename {place}/file {place}/b", f"mkdir {place}/d", f"put got {place}/c")
        batch = "".join(f"-{line}\n" for line in (*asked, f"chmod 777 {place}/file"))
        done = side.tool("sftp", "-oBatchMode=no", "-b", "-", "target", stdin=batch.encode())
        assert "is no reading" in done.said
        assert not (side.directory / "stolen").exists()
        assert sorted(path.name for path in place.iterdir()) == ["file", "key.pem", "link"]
        assert (place / "file").stat().st_mode & 0o777 != 0o777
        denied(side, "id", rule="only-sftp")
        denied(side, rule="only-sftp")
    finally:
        shutil.rmtree(place)


def test_no_shell(serve: Serve) -> None:
    side = serve("ssh-no-shell")
    denied(side, rule="no-shell")
    denied(side, "sh", stdin=b"id\n", rule="no-opaque")
    denied(side, "bash -s", stdin=b"id\n", rule="no-opaque")
    denied(side, "ssh localhost id", rule="no-tunnel-by-a-command")
    assert side.ssh("-tt", "target", "ls").code == 126
    assert "forwarded here" in side.ssh("-W", f"127.0.0.1:{side.port}", "target").said
    assert side.ssh("-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:9", "target").code == 255
    assert side.ok("sh -c 'echo fine'").text == "fine\n"


def test_approve_restarts(serve: Serve, kept: Path) -> None:
    side = serve("ssh-approve-restarts")
    for line in (
        "systemctl restart ostiary-no-such-unit", "sh -c 'service ostiary-no-such-unit stop'", "kill -9 999999999",
        "eval \"$X\"", "kubectl --server http://127.0.0.1:9 delete pod x",
    ):  # fmt: skip
        done = side.ssh("target", line)
        assert done.code == 126, done
        assert "apr-" in done.said
    assert side.ok("echo fine").text == "fine\n"


def test_masked_output(serve: Serve, kept: Path) -> None:
    side = serve("ssh-masked-output")
    shown = "kept, card **** **** **** 1111, [email]\n"
    assert side.ok(f"cat {kept}").text == shown
    assert side.ok(f"cat {kept} >&2").said == shown
    assert side.ok(f"head -c 20 {kept}; sleep 0.2; tail -c +21 {kept}").text == shown
    for old in ((), ("-O",)):
        assert side.tool("scp", *old, f"target:{kept}", "got").code == 0
        got = (side.directory / "got").read_text()
        # A masked file keeps its length.
        assert got.startswith("kept, card **** **** **** 1111, [email]")
        assert len(got) == kept.stat().st_size
