"""A gateway in front of a Kubernetes API server: manifests as a user writes them, and kubectl as an agent has it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from support.cluster import Cluster
from support.gateway import AGENT, TOKEN, Gateway, Manifest, agent_token, secret
from support.servers import Server, free_port, scratch

ACCOUNT = "gateways-of-tests"
"""The ServiceAccount that gateways log in with; it may do everything. Not named like what a release leaves behind."""


@dataclass(frozen=True)
class Plane:
    """An API server that gateways can be put in front of."""

    cluster: Cluster
    server: str
    """URL."""
    authorities: str
    """PEM."""
    token: str
    """Of a cluster administrator's ServiceAccount."""

    @property
    def host(self) -> str:
        return self.server.removeprefix("https://").split(":")[0]

    @property
    def port(self) -> int:
        return int(self.server.rstrip("/").rpartition(":")[2])

    def kubeconfig(self, directory: Path) -> Path:
        """The API server itself, with the account that gateways log in with."""
        return write_kubeconfig(directory / "direct.kubeconfig", self.server, self.authorities, {"token": self.token})


def plane(cluster: Cluster) -> Plane:
    """What a gateway needs to log in at this cluster."""
    found = json.loads(cluster.ok("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    told = found["clusters"][0]["cluster"]
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": "default"}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": ACCOUNT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "default"}],
    }
    for manifest in (account, binding):
        cluster.ok("apply", "-f", "-", manifest=manifest)
    token = cluster.ok("create", "token", ACCOUNT, "--namespace", "default", "--duration", "24h").strip()
    authorities = base64.b64decode(told["certificate-authority-data"]).decode()
    return Plane(cluster, told["server"].rstrip("/"), authorities, token)


def rule(name: str, expression: str = "true", action: str = "Allow", **more: object) -> Manifest:
    return {"name": name, "action": action, "expression": expression, **more}


def policy(name: str, *rules: Manifest, **spec: object) -> Manifest:
    """A GatewayPolicy for every Kubernetes Connection of the namespace."""
    return {
        "apiVersion": "ostiary.dev/v1alpha1",
        "kind": "GatewayPolicy",
        "metadata": {"name": name},
        "spec": {"match": {"protocols": ["Kubernetes"]}, "rules": list(rules), **spec},
    }


ALLOW_ALL = policy("allow-all", rule("everything"))


def connection(target: Plane, port: int, *, name: str = "cluster", **spec: object) -> Manifest:
    """A Connection to the API server, with TLS on both sides."""
    return {
        "apiVersion": "ostiary.dev/v1alpha1",
        "kind": "Connection",
        "metadata": {"name": name},
        "spec": {
            "protocol": "Kubernetes",
            "upstream": {"server": target.server, "tls": {"caRef": {"name": "api-ca", "key": "ca.crt"}}},
            "credentials": {"static": {"secretRef": {"name": "api"}}},
            "listener": {"port": port},
            **spec,
        },
    }


def secrets_for(target: Plane) -> list[Manifest]:
    """The API server's credential and CA, the agent's token."""
    return [
        secret("api", token=target.token),
        secret("api-ca", ca__crt=target.authorities),
        agent_token("planner-token", TOKEN, AGENT),
    ]


class ApiGateway(Gateway):
    """`ostiary serve` before an API server."""

    plane: Plane

    def configure(self, *policies: Manifest, **spec: object) -> None:
        """Writes the manifests anew; a gateway that runs takes them up by itself."""
        self.write(connection(self.plane, self.port, **spec), *secrets_for(self.plane), *(policies or (ALLOW_ALL,)))

    def kubeconfig(self, token: str = TOKEN, **user: object) -> Path:
        """A kubeconfig for this gateway's endpoint."""
        path = self.directory / f"kubeconfig-{abs(hash((token, str(user))))}"
        namespace = self.plane.cluster.namespace
        return write_kubeconfig(path, self.url, self.ca.read_text(), {"token": token, **user}, namespace)

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    def as_agent(self, token: str = TOKEN, namespace: str = "") -> Cluster:
        """kubectl through the gateway."""
        environment = self.plane.cluster.environment | {
            "KUBECONFIG": str(self.kubeconfig(token)),
            "KUBECACHEDIR": str(self.directory / "cache"),
        }
        return Cluster(environment, namespace or self.plane.cluster.namespace)

    def kubectl(
        self, *arguments: str, manifest: object = None, text: str = "", namespace: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return self.as_agent(namespace=namespace).kubectl(*arguments, manifest=manifest, text=text)

    def ok(self, *arguments: str, manifest: object = None, text: str = "", namespace: str = "") -> str:
        """Standard output of a kubectl that must succeed."""
        return self.as_agent(namespace=namespace).ok(*arguments, manifest=manifest, text=text)

    def get(self, *arguments: str, namespace: str = "") -> Any:
        """An object or a list of them, as the agent gets it."""
        return self.as_agent(namespace=namespace).get(*arguments)

    def records(self) -> list[dict[str, Any]]:
        """All events of the record, as `ostiary export` gives them."""
        return [json.loads(line) for line in self.run("export").splitlines() if line]


def write_kubeconfig(path: Path, server: str, authorities: str, user: Manifest, namespace: str = "default") -> Path:
    """A kubeconfig with one context."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(authorities.encode()).decode()}
    context = {"cluster": "cluster", "user": "agent", "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "agent",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "agent", "user": user}],
        "contexts": [{"name": "agent", "context": context}],
    }
    path.write_text(yaml.safe_dump(document))
    path.chmod(0o600)
    return path


def prepare(target: Plane, *policies: Manifest, **spec: object) -> ApiGateway:
    """A gateway with its manifests, not started."""
    directory = scratch(f"api-gateway-{free_port()}")
    directory.mkdir(parents=True, exist_ok=True)
    made = ApiGateway(directory, cast(Server, None), free_port(), free_port(), True)
    made.plane = target
    made.environment_variables = {key: os.environ[key] for key in ("OSTIARY_PURE",) if key in os.environ}
    made.configure(*policies, **spec)
    return made
