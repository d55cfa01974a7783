"""`ostiary kubeconfig`: what is in it, where it comes from, and what is said where it cannot be made."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from ostiary_cli.main import cli

CONNECTION = """
apiVersion: ostiary.dev/v1alpha1
kind: Connection
metadata: {name: cluster, namespace: agents}
spec:
  protocol: Kubernetes
  upstream: {server: "https://k8s.example.com"}
  credentials: {static: {secretRef: {name: api}}}
  listener: {port: 6443}
"""


def ostiary(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, ["kubeconfig", *map(str, arguments)], prog_name="ostiary")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Manifests, and the data of a gateway that was started with them."""
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "all.yaml").write_text(CONNECTION)
    (tmp_path / "data" / "tls").mkdir(parents=True)
    (tmp_path / "data" / "tls" / "ca.crt").write_text("THE CA")
    return tmp_path


def here(place: Path, *more: object) -> Result:
    return ostiary("cluster", place / "manifests", "--data", place / "data", "--token-file", place / "token", *more)


def cluster_of(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return yaml.safe_load(result.stdout)["clusters"][0]["cluster"]


def test_it_names_the_tokens_file_and_trusts_the_gateways_own_authority(place: Path) -> None:
    result = here(place, "--default-namespace", "prod")
    config = yaml.safe_load(result.stdout)
    assert cluster_of(result) == {
        "server": "https://127.0.0.1:6443",
        "certificate-authority-data": base64.b64encode(b"THE CA").decode(),
    }
    assert config["users"][0]["user"] == {"tokenFile": str(place / "token")}
    assert config["contexts"] == [
        {
            "name": "cluster.agents",
            "context": {"cluster": "cluster.agents", "user": "cluster.agents", "namespace": "prod"},
        }
    ]
    assert config["current-context"] == "cluster.agents"


def test_a_relative_token_file_is_found_from_anywhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    result = ostiary("agents/cluster", "manifests", "--data", "data", "--token-file", "token")
    assert yaml.safe_load(result.stdout)["users"][0]["user"]["tokenFile"] == str(place / "token")


def test_another_way_to_the_gateway_keeps_the_name_in_its_certificate(place: Path) -> None:
    elsewhere = cluster_of(here(place, "--server", "https://gateway.example.com:443/"))
    assert (elsewhere["server"], elsewhere["tls-server-name"]) == ("https://gateway.example.com:443", "127.0.0.1")
    unchecked = cluster_of(here(place, "--server", "https://gateway.example.com", "--insecure"))
    assert unchecked == {"server": "https://gateway.example.com", "insecure-skip-tls-verify": True}


def test_another_authority_may_be_given(place: Path) -> None:
    (place / "other.crt").write_text("ANOTHER")
    found = cluster_of(here(place, "--ca", place / "other.crt"))
    assert base64.b64decode(found["certificate-authority-data"]) == b"ANOTHER"


def test_a_file_is_for_its_owner_only(place: Path) -> None:
    result = here(place, "--out", place / "config")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "kubectl --kubeconfig" in result.stderr
    assert stat.S_IMODE((place / "config").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--insecure", "--ca", __file__), "do not go together"),
        (("--server", "gateway.example.com"), "must be a URL"),
    ],
)
def test_what_cannot_be_meant_is_refused(place: Path, more: tuple[str, ...], says: str) -> None:
    result = here(place, *more)
    assert result.exit_code == 2
    assert says in result.stderr


def test_without_a_token_file_or_an_authority_it_says_what_to_do(place: Path) -> None:
    assert "--token-file PATH" in ostiary("cluster", place / "manifests").stderr
    (place / "data" / "tls" / "ca.crt").unlink()
    result = here(place)
    assert result.exit_code == 3
    assert "Start it first (ostiary serve)" in result.stderr


def test_a_database_is_not_for_kubectl(place: Path) -> None:
    text = CONNECTION.replace("protocol: Kubernetes", "protocol: Postgres").replace(
        '{server: "https://k8s.example.com"}', "{host: db}"
    )
    (place / "manifests" / "all.yaml").write_text(text)
    result = here(place)
    assert result.exit_code == 3
    assert "kubectl is not its client" in result.stderr


# In a cluster: what kubectl tells


def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tls: Any = None, endpoint: bool = True) -> None:
    """A kubectl that knows one Connection, and the ca.crt of one Secret."""
    spec = yaml.safe_load(CONNECTION)
    spec["spec"]["listener"] = {"port": 443} | ({"tls": tls} if tls else {})
    if endpoint:
        spec["status"] = {"endpoint": {"host": "ostiary-cluster.agents.svc", "port": 443}}
    (tmp_path / "connection.json").write_text(json.dumps(spec))
    program = tmp_path / "kubectl"
    program.write_text(
        f"#!{sys.executable}\nimport base64, sys\n"
        f"if 'secret' in sys.argv: print(base64.b64encode(b'OF THE SECRET').decode())\n"
        f"else: print(open({str(tmp_path / 'connection.json')!r}).read())\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("KUBECTL", str(program))
    assert os.access(program, os.X_OK)


def test_for_pods_it_leads_to_the_service_with_the_projected_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl(tmp_path, monkeypatch, tls={"secretRef": {"name": "cluster-tls"}})
    result = ostiary("cluster", "-n", "agents")
    assert cluster_of(result) == {
        "server": "https://ostiary-cluster.agents.svc:443",
        "certificate-authority-data": base64.b64encode(b"OF THE SECRET").decode(),
    }
    assert yaml.safe_load(result.stdout)["users"][0]["user"] == {"tokenFile": "/var/run/secrets/ostiary/token"}


def test_a_certificate_that_nobody_can_check_is_not_trusted_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl(tmp_path, monkeypatch)
    result = ostiary("agents/cluster")
    assert result.exit_code == 3
    assert "listener.tls.secretRef" in result.stderr
    assert cluster_of(ostiary("agents/cluster", "--insecure"))["insecure-skip-tls-verify"] is True


def test_a_connection_that_is_not_served_has_no_way_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl(tmp_path, monkeypatch, endpoint=False)
    assert "is not served" in ostiary("cluster", "-n", "agents").stderr
