"""Which API server a gateway asks, and with what: by the Connection, its Secrets, and the pod that it runs in."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from support.certificates import make_authority
from support.kubernetes_sites import agent, connection, person, site

from ostiary_gateway.credentials.kubernetes import login_for
from ostiary_gateway.credentials.static import CredentialError
from ostiary_gateway.identity.proof import Identity
from ostiary_gateway.kube.access import Access, in_cluster

SERVER = {"server": "https://cluster.example.com:6443"}
STATIC = {"static": {"secretRef": {"name": "api"}}}
TOKEN = {"api": {"token": "t-1\n"}}
PLANNER = agent()


@pytest.fixture
def pod(tmp_path: Path) -> Access:
    """A pod's way to its API server."""
    authority = make_authority(tmp_path / "pki")
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "token").write_text("pods-own-token")
    (mount / "ca.crt").write_bytes(authority.ca.read_bytes())
    return in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}, mount)


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + token.encode())]


async def told(login: object, identity: Identity = PLANNER) -> str:
    from ostiary_gateway.credentials.kubernetes import _Login

    assert isinstance(login, _Login)
    with pytest.raises(CredentialError) as refused:
        await login.headers(identity)
    with pytest.raises(CredentialError):
        await login.check()
    return str(refused.value)


def test_a_token_of_a_secret_is_there_without_waiting() -> None:
    login = login_for(site(connection(STATIC, SERVER), TOKEN))
    assert (login.host, login.port, login.server_name) == ("cluster.example.com", 6443, "cluster.example.com")
    assert login.ready(PLANNER) == bearer("t-1")
    assert login.ready(PLANNER) is login.ready(agent(name="other")), "nothing is made for each request"
    assert not login.refused(PLANNER), "there is no other"
    context = login.context()
    assert context is login.context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_the_server_may_have_another_name_in_its_certificate() -> None:
    upstream = {"server": "https://[fd00::1]", "tls": {"serverName": "kubernetes.default"}}
    login = login_for(site(connection(STATIC, upstream), TOKEN))
    assert (login.host, login.port, login.server_name) == ("fd00::1", 443, "kubernetes.default")


def test_a_client_certificate_is_shown_in_the_handshake_and_needs_no_header(tmp_path: Path) -> None:
    pair = make_authority(tmp_path).server
    secret = {"tls.crt": pair.certificate.read_text(), "tls.key": pair.key.read_text()}
    login = login_for(site(connection(STATIC, SERVER), {"api": secret}))
    assert login.ready(PLANNER) == []
    login.context()


async def test_a_certificate_without_its_key_is_told(tmp_path: Path) -> None:
    pair = make_authority(tmp_path).server
    login = login_for(site(connection(STATIC, SERVER), {"api": {"tls.crt": pair.certificate.read_text()}}))
    assert await told(login) == "Secret demo/api has no token, nor tls.crt with tls.key"
    garbage = {"tls.crt": "no", "tls.key": "PRIVATE"}
    with pytest.raises(CredentialError) as refused:
        login_for(site(connection(STATIC, SERVER), {"api": garbage})).context()
    assert "PRIVATE" not in str(refused.value)


async def test_a_secret_that_is_missing_or_no_token_is_told_and_not_shown() -> None:
    assert "Secret demo/api is missing" in await told(login_for(site(connection(STATIC, SERVER))))
    text = await told(login_for(site(connection(STATIC, SERVER), {"api": {"token": "a b\r\nX: y"}})))
    assert "no bearer token" in text
    assert "X: y" not in text


async def test_outside_of_a_pod_there_is_no_cluster_of_its_own() -> None:
    for credentials in (STATIC, {"impersonate": {}}, {"serviceAccountToken": {"name": "agent"}}):
        text = await told(login_for(site(connection(credentials), TOKEN)))
        assert text == (
            "Connection demo/cluster names no spec.upstream.server, and this gateway does not run in a cluster: "
            "say which API server is meant"
        )


def test_in_a_pod_it_is_that_cluster_with_the_pods_authorities(pod: Access) -> None:
    login = login_for(site(connection({"impersonate": {}}), api=pod))
    assert (login.host, login.port) == ("10.0.0.1", 443)
    assert login.ready(PLANNER) == [
        *bearer("pods-own-token"),
        (b"impersonate-user", b"system:serviceaccount:demo:planner"),
    ]
    assert login.context().get_ca_certs()


def test_a_token_of_a_secret_in_a_pod_goes_before_the_pods_own(pod: Access) -> None:
    login = login_for(site(connection(STATIC), TOKEN, api=pod))
    assert login.ready(PLANNER) == bearer("t-1")


def test_the_pods_token_is_read_again_when_the_server_does_not_take_it(pod: Access) -> None:
    login = login_for(site(connection({"impersonate": {}}), api=pod))
    login.ready(PLANNER)
    assert not login.refused(PLANNER)
    assert pod.token_file is not None
    pod.token_file.write_text("another")
    assert login.refused(PLANNER)
    found = login.ready(PLANNER)
    assert found is not None
    assert found[0] == bearer("another")[0]


def test_each_subject_is_impersonated_as_itself_and_its_headers_are_made_once(pod: Access) -> None:
    login = login_for(site(connection({"impersonate": {}}), api=pod))
    ana, bob = person("ana", "devs"), person("bob")
    assert login.ready(ana) is login.ready(ana)
    assert login.ready(ana) != login.ready(bob)
    with pytest.raises(CredentialError, match="nobody is impersonated as 'system:masters'"):
        login.ready(person("eve", "system:masters"))


async def test_who_asks_for_tokens_is_never_shown_with_them(tmp_path: Path) -> None:
    pair = make_authority(tmp_path).server
    secret = {"tls.crt": pair.certificate.read_text(), "tls.key": pair.key.read_text()}
    credentials = {"serviceAccountToken": {"name": "agent", "secretRef": {"name": "api"}}}
    login = login_for(site(connection(credentials, SERVER), {"api": secret}))
    with_certificate = login_for(site(connection(STATIC, SERVER), {"api": secret}))
    assert login.ready(PLANNER) is None, "there is no token yet"
    # The API server takes a client certificate before a token: it would see who asks for tokens, not the agent.
    assert not login._login._access.certificate  # type: ignore[attr-defined]
    assert with_certificate._login._access.certificate  # type: ignore[attr-defined]
    await login.close()


async def test_a_login_stays_until_something_that_it_depends_on_changes() -> None:
    where = site(connection(STATIC, SERVER), TOKEN)
    login = login_for(where)
    assert login_for(replace(where, closed="for a while"), login) is login
    assert login_for(site(connection(STATIC, SERVER), {"api": {"token": "t-2"}}), login) is not login
    assert login_for(site(connection(STATIC, {"server": "https://other.example.com"}), TOKEN), login) is not login
    broken = login_for(site(connection(STATIC, SERVER)))
    assert login_for(where, broken) is not broken
