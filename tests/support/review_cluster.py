"""The store and the console in a cluster: their database, an issuer where people sign in, and a browser's requests."""

from __future__ import annotations

import base64
import datetime
import http.client
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from support.cluster import ROOT
from support.full_cluster import SYSTEM, FullCluster

HOST = "console.example.test"
ISSUER = f"https://issuer.{SYSTEM}.svc:8443"
GATEWAY_IMAGE = "localhost/ostiary-gateway:dev"
PASSWORD = "only-for-this-test"
SCRIPT = ROOT / "tests" / "e2e" / "full" / "store" / "issuer.py"

VALUES: dict[str, Any] = {
    "store": {
        "enabled": True,
        "url": {"secretRef": {"name": "store-database"}},
        "seal": {"every": "2s"},
        "anchors": [{"configMap": f"{SYSTEM}/ostiary-seals", "every": "5s"}],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
    },
    "console": {
        "enabled": True,
        "url": f"https://{HOST}",
        "secrets": ["issuer"],
        # A port-forward comes from the pod's own loopback.
        "trustedProxies": ["127.0.0.0/8"],
        "oidc": [
            {
                "name": "corp",
                "issuer": ISSUER,
                "clientID": "ostiary",
                "caFile": "/run/ostiary/secrets/issuer/ca.crt",
                "usernamePrefix": "-",
                "groupsClaim": "groups",
                "use": "Impersonate",
            }
        ],
        "impersonate": {"enabled": True, "groups": ["dba", "developers"]},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
    },
}


def database(system: FullCluster) -> None:
    """PostgreSQL for the store, in a pod that keeps its data when its container starts again."""
    (deployment,) = [
        each
        for each in yaml.safe_load_all((ROOT / "examples" / "kubernetes" / "shop" / "1-database.yaml").read_text())
        if each["kind"] == "Deployment"
    ]
    text = json.dumps(deployment).replace("postgres:17", "localhost/postgres:17")
    made = json.loads(text.replace('"app": "database"', '"app": "store-database"').replace('"demo"', f'"{SYSTEM}"'))
    made["metadata"]["name"] = "store-database"
    spec = made["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    container["env"] = [
        {"name": "POSTGRES_DB", "value": "ostiary"},
        {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
        {"name": "POSTGRES_PASSWORD", "value": PASSWORD},
    ]
    container["readinessProbe"]["exec"]["command"][-1] = "ostiary"
    container["volumeMounts"] = [each for each in container["volumeMounts"] if each["name"] != "init"]
    spec["volumes"] = [each for each in spec["volumes"] if each["name"] != "init"]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "store-database"},
        "spec": {"selector": {"app": "store-database"}, "ports": [{"port": 5432}]},
    }
    if system.kubectl("get", "deployment", "store-database").returncode != 0:
        # A new database has new seals: an anchor that an earlier one left would, rightly, call them rewritten.
        system.kubectl("delete", "configmap", "ostiary-seals", "--ignore-not-found")
    url = f"postgresql://postgres:{PASSWORD}@store-database.{SYSTEM}.svc/ostiary?sslmode=disable"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "store-database"},
        "stringData": {"url": url},
    }
    _apply(system, made, service, secret)
    system.ok("rollout", "status", "deployment/store-database", "--timeout=180s")


def issuer(system: FullCluster) -> None:
    """Where people of these tests sign in."""
    authority, certificate, key = _certificate(f"issuer.{SYSTEM}.svc")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "issuer"},
        "stringData": {"ca.crt": authority, "tls.crt": certificate, "tls.key": key},
    }
    script = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "issuer"},
        "data": {"issuer.py": SCRIPT.read_text()},
    }
    container = {
        "name": "issuer",
        "image": GATEWAY_IMAGE,
        "command": ["/opt/ostiary/bin/python", "/script/issuer.py"],
        "env": [{"name": "ISSUER", "value": ISSUER}],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        "volumeMounts": [{"name": "script", "mountPath": "/script"}, {"name": "tls", "mountPath": "/tls"}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "issuer", "labels": {"app": "issuer"}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [
                {"name": "script", "configMap": {"name": "issuer"}},
                {"name": "tls", "secret": {"secretName": "issuer"}},
            ],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "issuer"},
        "spec": {"selector": {"app": "issuer"}, "ports": [{"port": 8443}]},
    }
    system.kubectl("delete", "pod", "issuer", "--ignore-not-found")
    _apply(system, secret, script, pod, service)
    system.ok("wait", "--for=condition=Ready", "pod/issuer", "--timeout=120s")


def taken_away(system: FullCluster, *accounts: str) -> None:
    """Whatever was made beside the release, and what the store leaves on purpose: its anchor, its keys."""
    made = {
        "deployment": ["store-database"],
        "service": ["store-database", "issuer"],
        "pod": ["issuer"],
        "secret": ["store-database", "issuer", "ostiary-store-seal", "ostiary-store-tls"],
        "configmap": ["issuer", "ostiary-seals"],
        "serviceaccount": list(accounts),
    }
    for kind, names in made.items():
        system.ok("delete", kind, *names, "--ignore-not-found")


def _apply(cluster: FullCluster, *manifests: dict[str, Any]) -> None:
    cluster.ok("apply", "-f", "-", manifest={"apiVersion": "v1", "kind": "List", "items": list(manifests)})


def _certificate(name: str) -> tuple[str, str, str]:
    """Authority, certificate and key, as PEM."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in ("authority", name)]

    def begun(subject: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(names[subject])
            .issuer_name(names[0])
            .public_key(keys[subject].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=subject == 0, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[subject].public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
        )

    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    authority = begun(0).add_extension(usage, critical=True).sign(keys[0], hashes.SHA256())
    san = x509.SubjectAlternativeName([x509.DNSName(name)])
    leaf = begun(1).add_extension(san, critical=False).sign(keys[0], hashes.SHA256())
    private = keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (
        authority.public_bytes(Encoding.PEM).decode(), leaf.public_bytes(Encoding.PEM).decode(), private.decode(),
    )  # fmt: skip


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Console:
    """Somebody at the console: with a bearer token, or signed in with cookies, from an address of their own."""

    port: int
    address: str
    token: str = ""
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Mapping[str, str] | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Host": HOST, "Origin": f"https://{HOST}", "X-Forwarded-For": self.address, **headers}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        text = None
        if body is not None:
            api = path.startswith("/api/")
            text = json.dumps(dict(body)) if api else urlencode(body)
            sent["Content-Type"] = "application/json" if api else "application/x-www-form-urlencoded"
        try:
            connection.request(method, path, text, sent)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        for name, value in response.getheaders():
            if name.lower() == "set-cookie":
                for key, morsel in SimpleCookie(value).items():
                    self.cookies[key] = morsel.value
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)

    def get(self, path: str, **query: str) -> Answer:
        return self.ask("GET", f"{path}?{urlencode(query)}" if query else path)

    def api(self, path: str, **query: str) -> Any:
        """What a page says as JSON."""
        answer = self.get(f"/api/v1{path}", **query)
        assert answer.status == 200, (answer.status, answer.text)
        return answer.json

    def sign_in(self, user: str, *groups: str) -> None:
        """By the issuer, as a browser: the person signs in there, and comes back with a code."""
        answer = self.get("/signin/oidc", provider="corp")
        assert answer.status in (302, 303), answer.text
        there = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
        assert answer.headers["location"].startswith(f"{ISSUER}/authorize?")
        assert there["code_challenge_method"] == "S256"
        told = {
            "user": user,
            "groups": list(groups),
            "nonce": there["nonce"],
            "challenge": there["code_challenge"],
        }
        code = base64.urlsafe_b64encode(json.dumps(told).encode()).decode()
        answer = self.get("/signin/callback", state=there["state"], code=code)
        assert answer.status in (200, 302, 303), answer.text

    def form(self, path: str) -> dict[str, str]:
        """The hidden fields of a page's forms."""
        page = self.get(path)
        assert page.status == 200, page.text
        found = re.findall(r"<input\b[^>]*>", page.text)
        fields = [dict(re.findall(r'(\w+)="([^"]*)"', each)) for each in found]
        return {
            each["name"]: each.get("value", "") for each in fields if each.get("type") == "hidden" and "name" in each
        }


@contextmanager
def console_port(system: FullCluster) -> Iterator[int]:
    """A local port that leads to the console's Service."""
    command = ["kubectl", "--namespace", SYSTEM, "port-forward", "service/ostiary-console", ":443"]
    process = subprocess.Popen(
        command, env=system.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found is not None, line
        yield int(found[1])
    finally:
        process.terminate()
        process.communicate(timeout=10)
