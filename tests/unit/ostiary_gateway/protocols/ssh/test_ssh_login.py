"""An agent's login over SSH: what counts, what is refused, and that the client can read why."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import asyncssh
import pytest
from support.gateway import TOKEN, agent_token, secret
from support.ssh_logins import Door, door, private

from ostiary_gateway.protocols.ssh import agent_certificates
from ostiary_gateway.protocols.ssh.auth import CERTIFICATE_LOGIN, MAX_ATTEMPTS
from ostiary_gateway.protocols.ssh.lobby import SshLobby


class Client(asyncssh.SSHClient):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.banner = ""

    def auth_banner_received(self, msg: str, lang: str) -> None:
        self.banner += msg


async def login(at: Door, user: str = "deploy", password: str | None = TOKEN, **more: Any) -> Client:
    """Raises what asyncssh does if the login is refused; with the banner in its text."""
    client = Client()
    more = {"client_keys": None, "agent_path": None, **more}
    try:
        connection, _ = await asyncssh.create_connection(
            lambda: client, "127.0.0.1", at.port, username=user, password=password, config=None,
            known_hosts=str(at.known_hosts), **more,
        )  # fmt: skip
    except asyncssh.DisconnectError as problem:
        raise PermissionError(f"{client.banner}|{problem.reason}") from None
    connection.abort()
    await connection.wait_closed()
    return client


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
async def test_the_token_is_the_password(method: str) -> None:
    async with door() as at:
        await login(at, preferred_auth=method)
        assert at.last.identity is not None
        assert at.last.identity.subject["username"] == "planner"
        assert (at.last.login, at.last.wants_certificate) == ("deploy", False)
        assert at.last._client["application"].startswith("SSH-2.0-AsyncSSH")
        assert at.refusals == {}


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
async def test_a_wrong_token_is_refused_with_a_reason_and_the_id_of_its_record(method: str) -> None:
    async with door() as at:
        with pytest.raises(PermissionError) as told:
            await login(at, password="wrong", preferred_auth=method)
        text = str(told.value)
        assert "The password is no token that is known for the Connection host. [" in text
        assert "ostiary: Send the agent's token as the password" in text
        assert at.last.identity is None
        assert at.refusals["default/host", "token"] >= 1


async def test_which_logins_there_are_is_told_to_who_has_proven_who_it_is_and_to_nobody_else() -> None:
    async with door() as at:
        with pytest.raises(PermissionError) as told:
            await login(at, user="root")
        assert "The Connection host has no login 'root'." in str(told.value)
        assert "Its logins are: deploy, app. Use one as the user name (ssh deploy@HOST)" in str(told.value)
        with pytest.raises(PermissionError) as told:
            await login(at, user="root", password="wrong")
        assert "deploy" not in str(told.value)
        assert all(login.identity is None for login in at.logins)


async def test_plain_public_keys_are_refused_without_a_word_and_the_token_still_counts() -> None:
    async with door() as at:
        keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(10)]
        client = await login(at, client_keys=keys)
        assert client.banner == ""
        assert at.refusals == {}
        with pytest.raises(PermissionError):
            await login(at, client_keys=keys, password=None)


async def test_no_credential_is_no_login() -> None:
    async with door() as at:
        with pytest.raises(PermissionError):
            await login(at, password=None)


class Stubborn(Client):
    """Asks with one password after another, as long as it may."""

    def __init__(self, *passwords: str) -> None:
        super().__init__()
        self.passwords = list(passwords)
        self.tries = 0

    def password_auth_requested(self) -> str | None:
        self.tries += 1
        return self.passwords.pop(0) if self.passwords else None

    async def comes_to(self, at: Door) -> None:
        await asyncssh.create_connection(
            lambda: self, "127.0.0.1", at.port, username="deploy", config=None, client_keys=None, agent_path=None,
            known_hosts=str(at.known_hosts), preferred_auth="password",
        )  # fmt: skip


async def test_who_tries_too_often_has_to_connect_again() -> None:
    async with door() as at:
        client = Stubborn(*(f"wrong {number}" for number in range(20)))
        with pytest.raises(asyncssh.DisconnectError, match="Too many refused logins"):
            await client.comes_to(at)
        assert client.tries == MAX_ATTEMPTS


async def test_who_sends_the_same_again_is_not_asked_a_third_time() -> None:
    async with door() as at:
        client = Stubborn("wrong", "wrong", "wrong")
        with pytest.raises(asyncssh.DisconnectError, match="The same token was refused before"):
            await client.comes_to(at)
        assert (client.tries, at.refusals) == (2, {("default/host", "token"): 1})


async def test_a_closed_connection_says_so_before_anything_is_asked_for() -> None:
    async with door(closed="The audit store cannot be reached.") as at:
        with pytest.raises(PermissionError, match="The audit store cannot be reached") as told:
            await login(at)
        assert "[" in str(told.value)
        assert at.refusals == {("default/host", "closed"): 1}


async def test_the_only_login_of_a_static_credential_is_the_one_of_its_secret() -> None:
    key = secret("key", username="ci", privateKey=private())
    async with door(key, credentials={"static": {"secretRef": {"name": "key"}}}) as at:
        await login(at, user="ci")
        with pytest.raises(PermissionError, match="Its logins are: ci"):
            await login(at, user="deploy")


async def certificate(at: Door, key: asyncssh.SSHKey, **more: Any) -> asyncssh.SSHCertificate:
    done = await ask(at, key.export_public_key("openssh").decode(), **more)
    assert (done.exit_status, done.stderr) == (0, "")
    return asyncssh.import_certificate(str(done.stdout))


async def ask(at: Door, command: str, **more: Any) -> asyncssh.SSHCompletedProcess:
    options: dict[str, Any] = {"password": TOKEN, "client_keys": None, **more}
    async with asyncssh.connect(
        "127.0.0.1", at.port, username=CERTIFICATE_LOGIN, config=None, agent_path=None,
        known_hosts=str(at.known_hosts), **options,
    ) as connection:  # fmt: skip
        return await connection.run(command)


async def test_a_certificate_stands_for_the_token_it_was_made_with() -> None:
    async with door() as at:
        key = asyncssh.generate_private_key("ssh-ed25519")
        made = await certificate(at, key)
        await login(at, password=None, client_keys=[(key, made)])
        identity = at.last.identity
        assert identity is not None
        assert identity.subject["username"] == "planner"
        assert identity.subject["groups"] == ["agents"]
        assert dict(identity.shown)["sshCertificate"].isdecimal()
        assert identity.expires is not None
        assert at.site.identities.holds(identity)


@pytest.mark.parametrize(
    ("kind", "more"),
    [("ssh-rsa", {"key_size": 2048}), ("ecdsa-sha2-nistp256", {}), ("ecdsa-sha2-nistp521", {})],
)
async def test_keys_of_other_kinds_may_have_certificates_too(kind: str, more: dict[str, int]) -> None:
    async with door() as at:
        key = asyncssh.generate_private_key(kind, **more)
        await login(at, password=None, client_keys=[(key, await certificate(at, key))])
        assert at.last.identity is not None


async def test_a_revoked_token_ends_its_certificates() -> None:
    async with door() as at:
        key = asyncssh.generate_private_key("ssh-ed25519")
        made = await certificate(at, key)
        at.configure(agent_token("planner-token", "another", "planner"))
        with pytest.raises(PermissionError, match="no token that is known"):
            await login(at, password=None, client_keys=[(key, made)])


async def test_a_certificate_is_for_one_connection_and_one_key() -> None:
    async with door() as at:
        key, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        made = await certificate(at, key)
        with pytest.raises((PermissionError, ValueError)):
            await login(at, password=None, client_keys=[(other, made)])
        at.site.connection.metadata.__dict__["name"] = "another"
        with pytest.raises(PermissionError, match="is for another Connection than another"):
            await login(at, password=None, client_keys=[(key, made)])


async def test_a_certificate_of_another_authority_is_refused() -> None:
    async with door() as at:
        key, authority = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        forged = authority.generate_user_certificate(key, "planner", principals=["deploy", "ostiary:default/host"])
        with pytest.raises(PermissionError, match="is not one that the Connection host has signed"):
            await login(at, password=None, client_keys=[(key, forged)])


async def test_a_certificate_leads_to_no_other() -> None:
    async with door() as at:
        key = asyncssh.generate_private_key("ssh-ed25519")
        made = await certificate(at, key)
        with pytest.raises(asyncssh.PermissionDenied):
            await certificate(at, key, password=None, client_keys=[(key, made)])


@pytest.mark.parametrize(
    ("command", "says"),
    [("ls", "no public key"), ("ssh-ed25519 AAAA", "cut off"), ("ssh-dss AAAAB3NzaC1kc3M=", "not taken")],
)
async def test_what_is_no_public_key_has_no_certificate(command: str, says: str) -> None:
    async with door() as at:
        done = await ask(at, command)
        assert (done.exit_status, done.stdout) == (1, "")
        assert says in str(done.stderr)


async def test_a_pod_without_an_authority_signs_none_and_takes_none() -> None:
    async with door(pod=True) as at:
        done = await ask(at, "ssh-ed25519 AAAA")
        assert "signs no certificates: authentication.sshCertificates is not set" in str(done.stderr)
        await login(at)


async def test_an_expired_certificate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with door(authentication={"sshCertificates": {"ttl": "1m"}}) as at:
        key = asyncssh.generate_private_key("ssh-ed25519")
        made = await certificate(at, key)
        now = agent_certificates.time.time
        monkeypatch.setattr(agent_certificates.time, "time", lambda: now() + 61)
        with pytest.raises(PermissionError, match="The certificate has expired"):
            await login(at, password=None, client_keys=[(key, made)])


async def test_nothing_else_than_a_certificate_is_served_without_a_target() -> None:
    async with door() as at, asyncssh.connect(
        "127.0.0.1", at.port, username=CERTIFICATE_LOGIN, password=TOKEN, client_keys=None, config=None,
        agent_path=None, known_hosts=str(at.known_hosts),
    ) as connection:  # fmt: skip
        with pytest.raises(asyncssh.ChannelOpenError, match="for one certificate"):
            await connection.open_connection("localhost", 80)
        done = await asyncio.wait_for(connection.run(), 10)
        assert "A certificate needs a public key" in str(done.stderr)


async def test_what_changes_during_a_login_counts_when_it_ends() -> None:
    async with door() as at:
        lobby = SshLobby(at.site, at.checkpoint, at.checkpoint.counters)

        async def admit(sock: socket.socket) -> None:
            await lobby.admit(sock, lambda: None)

        at.welcome = admit  # type: ignore[method-assign]

        class Slow(Client):
            def password_auth_requested(self) -> str:
                at.configure(agent_token("planner-token", "another", "planner"))
                lobby.replace(at.site)
                return TOKEN

        reasons: list[str] = []
        refuse = at.checkpoint.refuse_login
        at.checkpoint.refuse_login = (  # type: ignore[method-assign]
            lambda name, client, reason: reasons.append(reason) or refuse(name, client, reason)
        )
        connection, _ = await asyncssh.create_connection(
            Slow, "127.0.0.1", at.port, username="deploy", config=None, client_keys=None, agent_path=None,
            known_hosts=str(at.known_hosts), preferred_auth="password",
        )  # fmt: skip
        await connection.wait_closed()
        assert reasons == ["The agent's token was revoked or changed."]
        assert lobby.sessions == 0
