"""Each way to log in at a real API server: who it sees then, and what it says where a right is missing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster import Cluster
from support.kubernetes_sites import agent, connection, person, site

from ostiary_gateway.credentials.kubernetes import UpstreamLogin, login_for
from ostiary_gateway.credentials.static import CredentialError
from ostiary_gateway.identity.proof import Identity
from ostiary_gateway.kube.access import Access, from_kubeconfig

pytestmark = pytest.mark.cluster

WHOAMI = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).encode()


class Refused(Exception):
    """The API server's word."""


@pytest.fixture
def admin(cluster: Cluster) -> Access:
    return from_kubeconfig(Path(cluster.environment["KUBECONFIG"]))


def remote(admin: Access) -> dict[str, Any]:
    """spec.upstream, for another cluster that happens to be this one."""
    return {"server": admin.server, "tls": {"caRef": {"name": "ca"}}}


def secrets(admin: Access, **more: dict[str, str]) -> dict[str, dict[str, str]]:
    return {"ca": {"ca.crt": admin.authorities}, **more}


def certificate_of(cluster: Cluster) -> dict[str, str]:
    config = yaml.safe_load(Path(cluster.environment["KUBECONFIG"]).read_text())
    user = config["users"][0]["user"]
    if "client-certificate-data" not in user:
        pytest.skip("the kubeconfig of this cluster has no client certificate")
    names = {"tls.crt": "client-certificate-data", "tls.key": "client-key-data"}
    return {name: base64.b64decode(user[field]).decode() for name, field in names.items()}


async def seen(login: UpstreamLogin, who: Identity) -> dict[str, Any]:
    """Whom the API server sees. One request, with the login's headers and context only."""
    headers = await login.headers(who)

    def asked() -> tuple[int, dict[str, Any]]:
        client = http.client.HTTPSConnection(login.host, login.port, context=login.context(), timeout=20)
        with contextlib.closing(client):
            client.putrequest("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews")
            for name, value in [*headers, (b"content-type", b"application/json")]:
                client.putheader(name, value)
            client.putheader("content-length", str(len(WHOAMI)))
            client.endheaders(WHOAMI)
            answer = client.getresponse()
            return answer.status, json.load(answer)

    status, found = await asyncio.to_thread(asked)
    if status != 201:
        raise Refused(found["message"])
    info = found["status"]["userInfo"]
    assert isinstance(info, dict)
    return info


async def test_a_client_certificate(shop: Cluster, admin: Access) -> None:
    made = connection({"static": {"secretRef": {"name": "api"}}}, remote(admin), namespace=shop.namespace)
    login = login_for(site(made, secrets(admin, api=certificate_of(shop))))
    assert "system:masters" in (await seen(login, agent()))["groups"]


async def test_tokens_of_a_service_account_are_asked_for_and_asked_again(shop: Cluster, admin: Access) -> None:
    shop.ok("create", "serviceaccount", "agent")
    shop.ok("create", "serviceaccount", "gateway")
    gateway = f"system:serviceaccount:{shop.namespace}:gateway"
    token = shop.ok("create", "token", "gateway").strip()
    made = connection(
        {"serviceAccountToken": {"name": "agent", "secretRef": {"name": "api"}}}, remote(admin),
        namespace=shop.namespace,
    )  # fmt: skip
    where = site(made, secrets(admin, api={"token": token}))

    refused = login_for(where)
    with pytest.raises(CredentialError, match="it may not; kubectl create role token-of-agent") as told:
        await refused.check()
    await refused.close()
    commands = str(told.value).partition("; ")[2].replace("--user=THE-GATEWAY", f"--user={gateway}")
    for command in commands.split(" && "):
        shop.ok(*command.split()[1:])

    login = login_for(where)
    first = await login.headers(agent())
    assert login.ready(agent()) == first
    assert (await seen(login, agent()))["username"] == f"system:serviceaccount:{shop.namespace}:agent"
    assert login.refused(agent())
    assert await login.headers(agent()) != first
    shop.ok("delete", "serviceaccount", "agent")
    await login.close()

    gone = login_for(where)
    with pytest.raises(CredentialError, match=f"kubectl create serviceaccount agent -n {shop.namespace}"):
        await gone.check()
    await gone.close()


async def test_a_role_in_its_namespace_lets_a_service_account_be_impersonated(shop: Cluster, admin: Access) -> None:
    shop.ok("create", "serviceaccount", "planner")
    shop.ok("create", "serviceaccount", "gateway")
    token = shop.ok("create", "token", "gateway").strip()
    made = connection({"impersonate": {"secretRef": {"name": "api"}}}, remote(admin), namespace=shop.namespace)
    login = login_for(site(made, secrets(admin, api={"token": token})))
    planner = agent(shop.namespace)
    with pytest.raises(Refused, match="cannot impersonate"):
        await seen(login, planner)
    shop.ok("create", "role", "agents", "--verb=impersonate", "--resource=serviceaccounts", "--resource-name=planner")
    shop.ok("create", "rolebinding", "agents", "--role=agents", f"--serviceaccount={shop.namespace}:gateway")
    found = await seen(login, planner)
    assert found["username"] == f"system:serviceaccount:{shop.namespace}:planner"
    assert f"system:serviceaccounts:{shop.namespace}" in found["groups"]
    with pytest.raises(Refused, match="cannot impersonate"):
        await seen(login, agent(shop.namespace, "default"))


async def test_a_user_is_impersonated_with_uid_groups_and_whom_it_acts_for(shop: Cluster, admin: Access) -> None:
    made = connection({"impersonate": {"secretRef": {"name": "api"}}}, remote(admin), namespace=shop.namespace)
    login = login_for(site(made, secrets(admin, api=certificate_of(shop))))
    ana = person("ana@example.com", "devs", "on call", uid="u-7")
    ana.subject["onBehalfOf"] = "Dana Müller"
    found = await seen(login, ana)
    assert found["username"] == "ana@example.com"
    assert found["uid"] == "u-7"
    assert set(found["groups"]) == {"devs", "on call", "system:authenticated"}
    assert found["extra"] == {"ostiary.dev/on-behalf-of": ["Dana Müller"]}
