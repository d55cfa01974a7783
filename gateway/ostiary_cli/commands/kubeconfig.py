"""`ostiary kubeconfig`: a kubeconfig with which an agent's kubectl, client-go or Python client goes to a gateway."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import yaml

from ostiary_api.connection import Connection
from ostiary_cli.errors import FOUND, CommandError
from ostiary_cli.options import data_option

IN_POD: Final = Path("/var/run/secrets/ostiary/token")
"""Where an agent's pod has its projected token (docs/agents-in-a-cluster.md)."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to come to a gateway. `authorities`: PEM; empty: those of the agent's system. `name`: what the certificate is
    for, where the URL has another host."""

    server: str
    authorities: bytes = b""
    name: str = ""
    insecure: bool = False


@click.command()
@click.argument("name", metavar="[NAMESPACE/]NAME")
@click.argument("paths", nargs=-1, metavar="[PATH…]", type=click.Path(path_type=Path, exists=False))
@data_option
@click.option("--namespace", "-n", default="", help="In a cluster: the Connection's namespace. Default: the context's.")
@click.option("--kubeconfig", default="", metavar="PATH", help="In a cluster: your own kubeconfig, to look there.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help=f"Where the agent has its token; read again for each request. Default in a cluster: {IN_POD}.",
)
@click.option("--server", default="", metavar="URL", help="Another way there: a port-forward, a load balancer.")
@click.option(
    "--ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="PATH",
    help="Authority of the gateway's certificate. Default: ca.crt of the data directory, or of the listener's Secret.",
)
@click.option("--insecure", is_flag=True, help="Do not check the certificate: whoever answers gets the token.")
@click.option("--default-namespace", default="", metavar="NAME", help="Namespace that kubectl takes without -n.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it here, not to standard output.")
def command(
    name: str,
    paths: tuple[Path, ...],
    data: Path,
    namespace: str,
    kubeconfig: str,
    token_file: Path | None,
    server: str,
    ca: Path | None,
    insecure: bool,
    default_namespace: str,
    out: Path | None,
) -> None:
    """Write a kubeconfig for the Kubernetes Connection NAME. No secret is in it: the token stays in its file.

    With PATH… it is for the gateway that `ostiary serve PATH… --data DIR` runs on this machine. Without, the Connection
    is looked up in your cluster (kubectl get), and the kubeconfig is for agents in its pods.
    """
    if insecure and ca is not None:
        raise click.UsageError("--insecure and --ca do not go together.")
    if paths:
        if token_file is None:
            raise click.UsageError("Where has the agent its token? Give --token-file PATH (ostiary token create).")
        found, way = _on_this_machine(name, paths, data)
        token = token_file.absolute()
    else:
        found, way = _in_the_cluster(name, namespace, kubeconfig, secret=ca is None and not insecure)
        token = token_file or IN_POD
    if server:
        way = _elsewhere(way, server.rstrip("/"))
    if ca is not None:
        way = Way(way.server, ca.read_bytes(), way.name)
    if insecure:
        way = Way(way.server, b"", way.name, insecure=True)
    text = yaml.safe_dump(document(found, way, token, default_namespace), sort_keys=False, width=10_000)
    if out is None:
        click.echo(text, nl=False)
        return
    _write(out, text)
    click.echo(f"Written: {out}. Try: kubectl --kubeconfig {out} auth whoami", err=True)


def document(connection: Connection, way: Way, token: Path, namespace: str = "") -> dict[str, Any]:
    """The kubeconfig. Clients read `tokenFile` again and again, so that a renewed token is used."""
    metadata = connection.metadata
    name = f"{metadata.name}.{metadata.namespace}"
    cluster: dict[str, Any] = {"server": way.server}
    if way.insecure:
        cluster["insecure-skip-tls-verify"] = True
    elif way.authorities:
        cluster["certificate-authority-data"] = base64.b64encode(way.authorities).decode()
    if way.name and not way.insecure:
        cluster["tls-server-name"] = way.name
    context = {"cluster": name, "user": name} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"tokenFile": str(token)}}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }


def _elsewhere(way: Way, server: str) -> Way:
    if urlsplit(server).scheme not in ("https", "http") or not urlsplit(server).hostname:
        raise click.BadParameter("must be a URL like https://127.0.0.1:6443.", param_hint="--server")
    host = urlsplit(way.server).hostname or ""
    return Way(server, way.authorities, host if urlsplit(server).hostname != host else "", way.insecure)


def _on_this_machine(name: str, paths: tuple[Path, ...], data: Path) -> tuple[Connection, Way]:
    from rich.console import Console

    from ostiary_cli.commands.explain import find_connection
    from ostiary_cli.problems import print_problems
    from ostiary_gateway.feed.loading import Loaded, load, tuple_key

    outcome = load(paths, complete=False)
    if not isinstance(outcome, Loaded):
        print_problems(Console(stderr=True, highlight=False), outcome.problems)
        raise SystemExit(FOUND)
    connection = _kubernetes(find_connection(outcome.bundle, name).connection)
    listener = connection.spec.listener
    scheme = "http" if listener.tls.mode == "Disable" else "https"
    way = Way(f"{scheme}://127.0.0.1:{listener.port}")
    if scheme == "http":
        return connection, way
    if listener.tls.secret_ref is None:
        own = data / "tls" / "ca.crt"
        if not own.is_file():
            raise CommandError(
                f"There is no {own}: the gateway makes its authority when it starts.",
                "Start it first (ostiary serve), or give its directory: --data DIR",
            )
        return connection, Way(way.server, own.read_bytes())
    secrets = {tuple_key(key): secret for key, secret in outcome.manifests.secrets.items()}
    secret = secrets.get((connection.metadata.namespace, listener.tls.secret_ref.name))
    return connection, Way(way.server, secret.data.get("ca.crt", b"") if secret is not None else b"")


def _in_the_cluster(name: str, namespace: str, kubeconfig: str, *, secret: bool) -> tuple[Connection, Way]:
    from ostiary_cli.kubectl.cluster import Target

    space, _, own = name.rpartition("/")
    target = Target(namespace or space, more=("--kubeconfig", kubeconfig) if kubeconfig else ())
    told = json.loads(target.run("get", "connections.ostiary.dev", own, "-o", "json"))
    connection = _kubernetes(Connection.model_validate({key: told[key] for key in ("metadata", "spec")}))
    endpoint = (told.get("status") or {}).get("endpoint")
    if not endpoint:
        raise CommandError(
            f"Connection {connection.key} is not served (status.endpoint is empty).",
            f"See: kubectl describe connection {own} -n {connection.metadata.namespace}",
        )
    tls = connection.spec.listener.tls
    scheme = "http" if tls.mode == "Disable" else "https"
    way = Way(f"{scheme}://{endpoint['host']}:{endpoint['port']}")
    if scheme == "http" or not secret:
        return connection, way
    if tls.secret_ref is None:
        raise CommandError(
            "Each pod of this gateway has made its certificate itself, so that nobody can check it.",
            "Give it one (listener.tls.secretRef, docs/kubernetes.md#certificates), or --insecure",
        )
    where = connection.metadata.namespace
    # Only the authority is asked for: the Secret's key stays where it is.
    path = "jsonpath={.data.ca\\.crt}"
    found = target.run("get", "secret", tls.secret_ref.name, "-o", path, namespace=where).strip()
    return connection, Way(way.server, base64.b64decode(found))


def _kubernetes(connection: Connection) -> Connection:
    if connection.spec.protocol != "Kubernetes":
        raise CommandError(
            f"Connection {connection.key} is for {connection.spec.protocol}: kubectl is not its client.",
            "Name a Connection whose protocol is Kubernetes.",
        )
    return connection


def _write(out: Path, text: str) -> None:
    try:
        # No secret is in it; kubectl and Helm warn of a kubeconfig that others can read.
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except OSError as problem:
        raise CommandError(f"{out} cannot be written: {problem.strerror}.", "Give another path: --out PATH") from None
