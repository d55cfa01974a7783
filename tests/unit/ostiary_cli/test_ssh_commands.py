"""`ostiary ssh`: the lines that targets and agents need, from manifests and from a cluster, and no private key."""

from __future__ import annotations

import base64
import json
import stat
import sys
from pathlib import Path

import asyncssh
import pytest
from click.testing import CliRunner, Result

from ostiary_cli.main import cli
from ostiary_cli.ssh_gateways import address
from ostiary_gateway.protocols.ssh.host_keys import own_key, public_line

AUTHORITY = asyncssh.generate_private_key("ssh-ed25519")
HOST = asyncssh.generate_private_key("ssh-ed25519")
CONNECTION = f"""
apiVersion: ostiary.dev/v1alpha1
kind: Connection
metadata: {{name: web, namespace: agents}}
spec:
  protocol: SSH
  upstream: {{host: web.test, hostKeys: ["{public_line(HOST)}"]}}
  credentials: {{sshCertificate: {{caSecretRef: {{name: user-ca}}, principals: [deploy, app]}}}}
  listener: {{port: 2222}}
"""
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: %s, namespace: agents}
stringData:
  privateKey: |
    %s
"""


def ostiary(*arguments: object, **variables: str) -> Result:
    result = CliRunner(env=variables).invoke(cli, ["ssh", *map(str, arguments)], prog_name="ostiary")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def a_secret(name: str, key: asyncssh.SSHKey) -> str:
    return SECRET % (name, key.export_private_key("openssh").decode().strip().replace("\n", "\n    "))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Manifests, and the data of a gateway that was started with them."""
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "all.yaml").write_text(CONNECTION)
    (tmp_path / "manifests" / "secret.yaml").write_text(a_secret("user-ca", AUTHORITY))
    for file in (tmp_path / "manifests").iterdir():
        file.chmod(0o600)
    own_key(tmp_path / "data", "host_key")
    return tmp_path


def here(place: Path, verb: str, *more: object) -> Result:
    return ostiary(verb, "web", place / "manifests", "--data", place / "data", *more)


def own(place: Path) -> str:
    return public_line(own_key(place / "data", "host_key"))


def test_the_authority_is_printed_and_nothing_of_its_private_key(place: Path) -> None:
    result = here(place, "ca")
    assert result.stdout == f"{public_line(AUTHORITY)} ostiary agents/web\n"
    assert "PRIVATE" not in result.output


def test_a_secret_may_have_the_public_key_beside_it(place: Path) -> None:
    text = f"  publicKey: {public_line(HOST)} comment\n"
    with (place / "manifests" / "secret.yaml").open("a") as file:
        file.write(text)
    assert here(place, "ca").stdout == f"{public_line(HOST)} ostiary agents/web\n"


def test_there_is_no_authority_where_there_are_no_certificates(place: Path) -> None:
    file = place / "manifests" / "all.yaml"
    start, _, end = file.read_text().partition("{sshCertificate")
    file.write_text(start + "{static: {secretRef: {name: key}}}\n" + end.partition("\n")[2])
    result = here(place, "ca")
    assert result.exit_code == 3
    assert "it logs in with a Secret (credentials.static)" in result.stderr


def test_the_host_key_of_a_gateway_on_this_machine(place: Path) -> None:
    assert here(place, "known-hosts").stdout == f"[127.0.0.1]:2222 {own(place)}\n"
    assert here(place, "known-hosts", "--server", "gw.example.com").stdout == f"gw.example.com {own(place)}\n"
    assert here(place, "known-hosts", "--server", "gw:22").stdout == f"gw {own(place)}\n"


def test_the_host_key_of_a_secret(place: Path) -> None:
    file = place / "manifests" / "all.yaml"
    file.write_text(file.read_text().replace("{port: 2222}", "{port: 2222, hostKeyRef: {name: host-key}}"))
    (place / "manifests" / "host.yaml").write_text(a_secret("host-key", HOST))
    (place / "manifests" / "host.yaml").chmod(0o600)
    assert here(place, "known-hosts").stdout == f"[127.0.0.1]:2222 {public_line(HOST)}\n"


def test_a_gateway_that_has_not_served_yet_has_no_host_key(place: Path) -> None:
    result = ostiary("known-hosts", "web", place / "manifests", "--data", place / "other")
    assert result.exit_code == 3
    assert "Start it first (ostiary serve)" in result.stderr


def test_a_configuration_for_tokens(place: Path) -> None:
    known = place / "known hosts"
    assert here(place, "config", "--known-hosts", known).stdout == (
        "Host web\n  HostName 127.0.0.1\n  Port 2222\n  User deploy\n"
        f'  UserKnownHostsFile "{known}"\n  StrictHostKeyChecking yes\n  IdentitiesOnly yes\n'
        "  PreferredAuthentications keyboard-interactive,password\n"
    )
    assert known.read_text() == f"[127.0.0.1]:2222 {own(place)}\n"


def test_a_configuration_for_certificates(place: Path) -> None:
    result = here(place, "config", "--identity", "/keys/agent", "--login", "app")
    assert result.stdout == (
        "Host web\n  HostName 127.0.0.1\n  Port 2222\n  User app\n"
        "  IdentityFile /keys/agent\n  CertificateFile /keys/agent-cert.pub\n  IdentitiesOnly yes\n"
    )


def test_connections_of_other_protocols_are_no_business_of_ssh(place: Path) -> None:
    file = place / "manifests" / "all.yaml"
    file.write_text(
        "apiVersion: ostiary.dev/v1alpha1\nkind: Connection\nmetadata: {name: web}\nspec:\n  protocol: Postgres\n"
        "  upstream: {host: db}\n  credentials: {static: {secretRef: {name: db}}}\n  listener: {port: 5432}\n"
    )
    result = here(place, "ca")
    assert result.exit_code == 3
    assert "is for Postgres: ssh is not its client" in result.stderr


def test_a_certificate_needs_a_gateway_a_key_and_a_token(place: Path) -> None:
    assert "Which gateway?" in ostiary("cert").stderr
    missing = ostiary("cert", "--server", "127.0.0.1:1", "--identity", place / "id")
    assert f"ssh-keygen -t ed25519 -N '' -f {place / 'id'}" in missing.stderr
    (place / "id.pub").write_text("ssh-ed25519 AAAA")
    none = ostiary("cert", "--server", "127.0.0.1:1", "--identity", place / "id", OSTIARY_TOKEN="")
    assert "Give --token-file PATH, or set OSTIARY_TOKEN." in none.stderr
    away = ostiary("cert", "--server", "127.0.0.1:1", "--identity", place / "id", OSTIARY_TOKEN="t")
    assert "The gateway at 127.0.0.1:1 cannot be reached" in away.stderr


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("gw:2222", "gw", 2222), ("gw", "gw", 22), ("[::1]:22", "::1", 22), ("[::1]", "::1", 22), ("::1", "::1", 22)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    way = address(text)
    assert (way.host, way.port) == (host, port)


@pytest.mark.parametrize("text", ["", ":22", "gw:0", "gw:65536", "gw:x"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is no HOST:PORT"):
        address(text)


# In a cluster: a kubectl that knows one Connection and its Secrets.


def cluster(place: Path, monkeypatch: pytest.MonkeyPatch, secrets: dict[str, dict[str, str]], **spec: object) -> Path:
    from ostiary_api.manifests import parse

    connection = next(iter(parse(CONNECTION).connections.values())).to_manifest()
    connection["spec"]["listener"].update(spec)
    connection["status"] = {"endpoint": {"host": "web.agents.svc", "port": 2222}}
    packed = {
        f"{name} {key}": base64.b64encode(value.encode()).decode()
        for name, data in secrets.items()
        for key, value in data.items()
    }
    program = place / "kubectl"
    program.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"with open({str(place / 'asked')!r}, 'a') as file: print(*sys.argv[1:], file=file)\n"
        f"if sys.argv[2] == 'secret':\n"
        f"    key = sys.argv[5].removeprefix('jsonpath={{.data.').removesuffix('}}')\n"
        f"    print(json.loads({json.dumps(packed)!r}).get(sys.argv[3] + ' ' + key, ''), end='')\n"
        f"else:\n    print({json.dumps(connection)!r})\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("KUBECTL", str(program))
    return place / "asked"


def test_in_a_cluster_the_public_keys_of_secrets_are_enough(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"publicKey": public_line(AUTHORITY) + " people@example.com\n"}
    asked = cluster(place, monkeypatch, {"user-ca": data})
    assert ostiary("ca", "web", "-n", "agents").stdout == f"{public_line(AUTHORITY)} ostiary agents/web\n"
    assert "privateKey" not in asked.read_text()


def test_in_a_cluster_the_private_key_says_what_the_public_one_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"privateKey": HOST.export_private_key("openssh").decode()}
    cluster(place, monkeypatch, {"host-key": data}, hostKeyRef={"name": "host-key"})
    assert ostiary("known-hosts", "agents/web").stdout == f"[web.agents.svc]:2222 {public_line(HOST)}\n"


def test_in_a_cluster_each_pod_has_its_own_host_key_unless_it_is_given_one(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster(place, monkeypatch, {})
    result = ostiary("known-hosts", "web")
    assert result.exit_code == 3
    assert "listener.hostKeyRef" in result.stderr
