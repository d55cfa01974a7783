"""`ostiary ssh`: what agents, targets and their admins need for SSH Connections: keys, certificates, configuration."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ostiary_api.connection import Connection
from ostiary_api.units import format_timestamp
from ostiary_cli.errors import CommandError
from ostiary_cli.options import data_option
from ostiary_cli.ssh_gateways import Found, Way, address, find

IN_POD: Final = Path("/var/run/secrets/ostiary/token")
SECONDS: Final = 60.0

Command = TypeVar("Command", bound=Callable[..., object])


def _where(function: Command) -> Command:
    """The arguments and options that say which Connection is meant."""
    decorators = (
        click.argument("name", metavar="[NAMESPACE/]NAME"),
        click.argument("paths", nargs=-1, metavar="[PATH…]", type=click.Path(path_type=Path, exists=False)),
        *_LOOK,
    )
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


_LOOK: Final[tuple[Any, ...]] = (
    data_option,
    click.option(
        "--namespace", "-n", default="", help="In a cluster: the Connection's namespace. Default: the context's."
    ),
    click.option("--kubeconfig", default="", metavar="PATH", help="In a cluster: your own kubeconfig, to look there."),
)


def _server(context: click.Context, parameter: click.Parameter, value: str) -> Way | None:
    try:
        return address(value) if value else None
    except ValueError as problem:
        raise click.BadParameter(f"{problem}.", context, parameter) from None


server_option = click.option(
    "--server", default="", metavar="HOST:PORT", callback=_server,
    help="Another way there: a port-forward, a load balancer.",
)  # fmt: skip


@click.group()
def command() -> None:
    """Keys, certificates and configuration for SSH Connections.

    With PATH… a Connection is one of the gateway that `ostiary serve PATH… --data DIR` runs on this machine. Without,
    it is looked up in your cluster (kubectl get).
    """


@command.command()
@_where
def ca(name: str, paths: tuple[Path, ...], data: Path, namespace: str, kubeconfig: str) -> None:
    """Print the authority of the gateway's certificates, for the targets of the Connection NAME.

    Put the line into a file at each target, and name that in its sshd_config: TrustedUserCAKeys FILE. Only the public
    key is printed. A Secret that has it as publicKey is not asked for its private key.
    """
    found = find(name, paths, data, namespace, kubeconfig)
    signed = found.connection.spec.credentials.ssh_certificate
    if signed is None:
        raise CommandError(
            f"Connection {found.connection.key} has no certificates: it logs in with a Secret (credentials.static).",
            "Set credentials.sshCertificate, or put the Secret's public key into authorized_keys at the target.",
        )
    metadata = found.connection.metadata
    click.echo(f"{found.public(signed.ca_secret_ref.name)} ostiary {metadata.namespace}/{metadata.name}")


@command.command("known-hosts")
@_where
@server_option
def known_hosts(
    name: str, paths: tuple[Path, ...], data: Path, namespace: str, kubeconfig: str, server: Way | None
) -> None:
    """Print the gateway's host key as lines for an agent's known_hosts."""
    found = find(name, paths, data, namespace, kubeconfig)
    click.echo(_known_hosts(found, server or found.way()), nl=False)


@command.command()
@_where
@server_option
@click.option("--login", default="", metavar="USER", help="The login at the target. Default: the first one.")
@click.option(
    "--identity", type=click.Path(path_type=Path, dir_okay=False), metavar="PATH",
    help="The agent's private key, with a certificate of `ostiary ssh cert` beside it.",
)  # fmt: skip
@click.option(
    "--known-hosts", "keep", type=click.Path(path_type=Path, dir_okay=False), metavar="PATH",
    help="Write the gateway's host key there, and have ssh look there.",
)  # fmt: skip
def config(
    name: str,
    paths: tuple[Path, ...],
    data: Path,
    namespace: str,
    kubeconfig: str,
    server: Way | None,
    login: str,
    identity: Path | None,
    keep: Path | None,
) -> None:
    """Print an ssh_config block with which `ssh NAME`, scp, sftp, rsync and Ansible go through the gateway."""
    found = find(name, paths, data, namespace, kubeconfig)
    way = server or found.way()
    if keep is not None:
        _write(keep, _known_hosts(found, way))
    click.echo(block(found.connection, way, login, identity, keep), nl=False)


def block(connection: Connection, way: Way, login: str, identity: Path | None, known: Path | None) -> str:
    """For ssh_config. No secret is in it."""
    signed = connection.spec.credentials.ssh_certificate
    user = login or (signed.principals[0] if signed is not None else "")
    lines = [f"HostName {way.host}", f"Port {way.port}"]
    lines += [f"User {user}"] if user else []
    lines += [f"UserKnownHostsFile {_quoted(known)}", "StrictHostKeyChecking yes"] if known is not None else []
    if identity is not None:
        lines += [f"IdentityFile {_quoted(identity)}", f"CertificateFile {_quoted(identity)}-cert.pub"]
    # Keys that an ssh-agent holds are none that a gateway knows.
    lines += ["IdentitiesOnly yes"]
    if identity is None:
        lines += ["PreferredAuthentications keyboard-interactive,password"]
    return f"Host {connection.metadata.name}\n" + "".join(f"  {line}\n" for line in lines)


@command.command()
@click.argument("name", metavar="[[NAMESPACE/]NAME]", default="")
@click.argument("paths", nargs=-1, metavar="[PATH…]", type=click.Path(path_type=Path, exists=False))
@data_option
@click.option("--namespace", "-n", default="", help="In a cluster: the Connection's namespace. Default: the context's.")
@click.option("--kubeconfig", default="", metavar="PATH", help="In a cluster: your own kubeconfig, to look there.")
@server_option
@click.option(
    "--identity", type=click.Path(path_type=Path, dir_okay=False), metavar="PATH",
    default=lambda: Path.home() / ".ssh" / "id_ed25519", show_default="~/.ssh/id_ed25519",
    help="The agent's private key; it is not read, only PATH.pub. The certificate becomes PATH-cert.pub.",
)  # fmt: skip
@click.option(
    "--token-file", type=click.Path(path_type=Path), metavar="PATH",
    help=f"Where the agent has its token. Default: $OSTIARY_TOKEN, then {IN_POD}.",
)  # fmt: skip
@click.option(
    "--known-hosts", "known", type=click.Path(path_type=Path, dir_okay=False), metavar="PATH",
    default=lambda: Path.home() / ".ssh" / "known_hosts", show_default="~/.ssh/known_hosts",
    help="Where the gateway's host key is, unless NAME says it.",
)  # fmt: skip
def cert(
    name: str,
    paths: tuple[Path, ...],
    data: Path,
    namespace: str,
    kubeconfig: str,
    server: Way | None,
    identity: Path,
    token_file: Path | None,
    known: Path,
) -> None:
    """Get a certificate for the agent's own SSH key, so that ssh needs no token for some hours.

    Logs in at the gateway with the token, and has it sign the public key. The certificate is good for one Connection,
    and no longer than the token. Give --server HOST:PORT, or the Connection's NAME (and PATH… of its manifests).
    """
    if not name and server is None:
        raise click.UsageError("Which gateway? Give --server HOST:PORT, or the name of a Connection.")
    public = _public_key(identity)
    token = _token(token_file)
    hosts = known.read_text() if known.is_file() else ""
    if name:
        found = find(name, paths, data, namespace, kubeconfig)
        server = server or found.way()
        hosts = _known_hosts(found, server)
    assert server is not None
    line = asyncio.run(_signed(server, hosts, token, public))
    out = identity.with_name(f"{identity.name}-cert.pub")
    _write(out, line)
    click.echo(f"Written: {out}, {told(line, time.time())}.", err=True)


def told(line: str, now: float) -> str:
    """What a certificate is, in words. Raises CommandError if it is none."""
    import base64

    from ostiary_gateway.protocols.ssh.certificates import BadCertificate, read

    try:
        found = read(base64.b64decode(line.split()[1]))
    except (BadCertificate, ValueError, IndexError):
        raise CommandError("The gateway's answer is no certificate.", "Is it an Ostiary gateway?") from None
    about = dict(word.split("=", 1) for word in found.key_id.decode("utf-8", "replace").split() if "=" in word)
    ends = format_timestamp(datetime.fromtimestamp(found.valid_before, UTC))
    hours = (found.valid_before - now) / 3600
    return f"for {about.get('subject', '?')} at {about.get('connection', '?')}, valid until {ends} ({hours:.1f} h)"


async def _signed(server: Way, hosts: str, token: str, public: str) -> str:
    import asyncssh

    from ostiary_gateway.protocols.ssh.auth import CERTIFICATE_LOGIN

    class Client(asyncssh.SSHClient):
        banner = ""

        def auth_banner_received(self, msg: str, lang: str) -> None:
            self.banner += msg

    client = Client()
    where = f"{server.host}:{server.port}"
    try:
        async with asyncio.timeout(SECONDS):
            connection, _ = await asyncssh.create_connection(
                lambda: client, server.host, server.port, username=CERTIFICATE_LOGIN, password=token, config=None,
                client_keys=None, agent_path=None, preferred_auth="password", known_hosts=hosts.encode(),
            )  # fmt: skip
            async with connection:
                done = await connection.run(public)
    except asyncssh.HostKeyNotVerifiable:
        raise CommandError(
            f"The host key of {where} is not known, so it does not get the token.",
            "Give --known-hosts PATH with it (ostiary ssh known-hosts prints it), or the Connection's NAME.",
        ) from None
    except asyncssh.DisconnectError as problem:
        told = client.banner.strip() or problem.reason
        raise CommandError(f"The gateway at {where} refuses the login: {told}", "Give another token.") from None
    except asyncssh.Error as problem:
        text = f"The gateway at {where} has ended the connection: {problem.reason or 'it does not say why'}."
        raise CommandError(text, "Try again.") from None
    except (OSError, TimeoutError) as problem:
        text = str(problem) or "no answer"
        raise CommandError(f"The gateway at {where} cannot be reached: {text}.", "Is it running there?") from None
    if done.exit_status != 0:
        raise CommandError(str(done.stderr).strip().removeprefix("ostiary: "), "See docs/identity.md#ssh-certificates.")
    return str(done.stdout)


def _public_key(identity: Path) -> str:
    path = identity.with_name(f"{identity.name}.pub")
    try:
        return path.read_text().strip()
    except OSError as problem:
        raise CommandError(
            f"{path} cannot be read: {problem.strerror}.",
            f"Make a key: ssh-keygen -t ed25519 -N '' -f {identity}; or name another: --identity PATH",
        ) from None


def _token(file: Path | None) -> str:
    given = os.environ.get("OSTIARY_TOKEN", "").strip()
    if file is None and given:
        return given
    path = file or IN_POD
    try:
        return path.read_text().strip()
    except OSError as problem:
        raise CommandError(
            f"There is no token: {path} cannot be read ({problem.strerror}).",
            "Give --token-file PATH, or set OSTIARY_TOKEN.",
        ) from None


def _known_hosts(found: Found, way: Way) -> str:
    return f"{way.pattern} {found.host_key()}\n"


def _quoted(path: Path) -> str:
    text = str(path.absolute())
    return f'"{text}"' if " " in text else text


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as problem:
        raise CommandError(f"{path} cannot be written: {problem.strerror}.", "Give another path.") from None
