"""Tokens that are longer than ssh's answers: OpenSSH gives 1023 characters at most; the gateway asks for the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncssh
import paramiko
import pytest
from support import ssh_gateway as gateways
from support.gateway import TOKEN, agent_token
from support.ssh_gateway import ALLOW_ALL, SshGateway, connection, secrets_for
from support.ssh_pairs import Side, through
from support.sshd import Sshd

pytestmark = pytest.mark.clients

LENGTHS = (1022, 1023, 1024, 2046, 2500)
SCRIPT = """#!/bin/sh
# ssh takes 1023 characters of an answer; the gateway asks for the rest.
case $1 in *'rom character '*) from=${1##*rom character }; from=${from%%[!0-9]*} ;; *) from=1 ;; esac
tail -c "+$from" FILE
"""


def token(length: int) -> str:
    return (f"a-token-of-{length}-" + TOKEN * 60)[:length]


@pytest.fixture(scope="module")
def gateway(target: Sshd) -> Iterator[SshGateway]:
    made = gateways.prepare(target)
    tokens = [agent_token(f"token-{length}", token(length), f"agent-{length}") for length in LENGTHS]
    made.write(connection(target, made.port), *secrets_for(target), *tokens, ALLOW_ALL)
    try:
        made.start()
        yield made
    finally:
        made.destroy()


def asking(side: Side, script: str, secret: str) -> Side:
    """The agent with another program for SSH_ASKPASS, and ssh's own order of methods."""
    place = side.file("token", secret.encode())
    (side.directory / "askpass").write_text(script.replace("FILE", str(place)))
    side.options = {key: value for key, value in side.options.items() if key != "PreferredAuthentications"}
    side.configure()
    return side


@pytest.mark.parametrize("length", LENGTHS)
def test_a_program_that_gives_what_it_is_asked_for(length: int, gateway: SshGateway, tmp_path: Path) -> None:
    side = asking(through(gateway, tmp_path), SCRIPT, token(length))
    done = side.ssh("target", "echo let in")
    assert (done.code, done.text, done.said) == (0, "let in\n", "")


def test_a_program_that_gives_the_same_always_is_told_what_to_do(gateway: SshGateway, tmp_path: Path) -> None:
    side = asking(through(gateway, tmp_path), "#!/bin/sh\ncat FILE\n", token(2500))
    done = side.ssh("target", "echo let in")
    assert (done.code, done.out) == (255, b"")
    assert "ssh has 1023 characters at most" in done.said, done.said
    for length in (1022, 1023):
        side = asking(through(gateway, tmp_path, f"short-{length}"), "#!/bin/sh\ncat FILE\n", token(length))
        assert side.ssh("target", "echo let in").text == "let in\n"


@pytest.mark.parametrize("length", LENGTHS)
async def test_libraries_give_all_at_once(length: int, gateway: SshGateway, target: Sshd) -> None:
    hosts = asyncssh.import_known_hosts(f"[127.0.0.1]:{gateway.port} {gateway.host_key}\n")
    # asyncssh answers one question only, and 1023 characters might be the beginning.
    for methods in ("password", *(["keyboard-interactive"] if length != 1023 else [])):
        async with asyncssh.connect(
            "127.0.0.1", gateway.port, username=target.user, password=token(length), known_hosts=hosts, config=[],
            client_keys=None, agent_path=None, preferred_auth=methods,
        ) as client:  # fmt: skip
            assert (await client.run("echo let in")).stdout == "let in\n"
    transport = paramiko.Transport(("127.0.0.1", gateway.port))
    transport.start_client(timeout=60)
    transport.auth_interactive(target.user, lambda title, about, prompts: [token(length) for _ in prompts])
    assert transport.is_authenticated()
    transport.close()
