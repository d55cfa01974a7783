"""Where the API server is: a pod's mount, a kubeconfig, and files that change under way."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml
from support.certificates import make_authority

from ostiary_gateway.kube.access import Access, Login, from_kubeconfig, in_cluster
from ostiary_gateway.kube.errors import ConfigError


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_authority(tmp_path_factory.mktemp("ca")).ca.read_text()


@pytest.fixture
def mount(tmp_path: Path, authority: str) -> Path:
    (tmp_path / "token").write_text("the-token\n")
    (tmp_path / "ca.crt").write_text(authority)
    (tmp_path / "namespace").write_text("shop")
    return tmp_path


def test_a_pod_has_all_that_is_needed(mount: Path) -> None:
    found = in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}, mount)
    assert (found.server, found.namespace) == ("https://10.0.0.1:6443", "shop")
    assert Login(found).token() == "the-token"
    assert len(Login(found).context().get_ca_certs()) == 1


def test_an_ipv6_address_is_put_in_brackets(mount: Path) -> None:
    assert in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1"}, mount).server == "https://[fd00::1]:443"


def test_outside_of_a_pod_it_says_what_to_do(mount: Path) -> None:
    with pytest.raises(ConfigError, match="--kubeconfig"):
        in_cluster({}, mount)
    (mount / "token").unlink()
    with pytest.raises(ConfigError, match="has no token"):
        in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, mount)


def test_a_renewed_token_is_seen(mount: Path) -> None:
    now = 0.0
    login = Login(in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, mount), lambda: now)
    assert login.token() == "the-token"
    (mount / "token").write_text("the-next")
    now = 59.0
    assert login.token() == "the-token"
    now = 61.0
    assert login.token() == "the-next"


def test_a_token_that_was_refused_is_looked_at_at_once(mount: Path) -> None:
    login = Login(in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, mount), lambda: 0.0)
    assert login.token() == "the-token"
    assert not login.renewed()
    (mount / "token").write_text("the-next")
    assert login.renewed()


def test_while_a_token_cannot_be_read_the_last_one_is_used(mount: Path) -> None:
    now = 0.0
    login = Login(in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, mount), lambda: now)
    assert login.token() == "the-token"
    (mount / "token").unlink()
    now = 100.0
    assert login.token() == "the-token"


def test_another_authority_gives_another_context(mount: Path, tmp_path: Path) -> None:
    now = 0.0
    login = Login(in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, mount), lambda: now)
    first = login.context()
    now = 100.0
    assert login.context() is first
    (mount / "ca.crt").write_text(make_authority(tmp_path / "other").other.read_text())
    now = 200.0
    assert login.context() is not first


def kubeconfig(path: Path, cluster: object, user: object) -> Path:
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    file = path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


def test_a_kubeconfig_gives_the_same(tmp_path: Path, authority: str) -> None:
    packed = base64.b64encode(authority.encode()).decode()
    cluster = {"server": "https://127.0.0.1:6443/", "certificate-authority-data": packed}
    found = from_kubeconfig(kubeconfig(tmp_path, cluster, {"token": "abc"}))
    assert found == Access("https://127.0.0.1:6443", authorities=authority, token="abc", namespace="shop")


def test_files_of_a_kubeconfig_are_beside_it(tmp_path: Path, authority: str) -> None:
    (tmp_path / "ca.pem").write_text(authority)
    (tmp_path / "token").write_text("from-a-file")
    cluster = {"server": "https://127.0.0.1:6443", "certificate-authority": "ca.pem"}
    found = from_kubeconfig(kubeconfig(tmp_path, cluster, {"tokenFile": "token"}))
    assert found.authorities == authority
    assert Login(found).token() == "from-a-file"


@pytest.mark.parametrize(
    ("cluster", "user", "words"),
    [
        ({"server": "http://x"}, {"token": "t"}, "https://"),
        ({"server": "https://x", "insecure-skip-tls-verify": True}, {"token": "t"}, "insecure-skip-tls-verify"),
        ({"server": "https://x"}, {"exec": {"command": "aws"}}, "plugins are not run"),
        ({"server": "https://x", "certificate-authority-data": "%%%"}, {"token": "t"}, "no PEM text"),
        ({"server": "https://x", "certificate-authority": "nowhere"}, {"token": "t"}, "cannot be read"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_says_why(tmp_path: Path, cluster: object, user: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_kubeconfig(kubeconfig(tmp_path, cluster, user))


def test_what_is_no_kubeconfig_says_so(tmp_path: Path) -> None:
    for text in ("a: [", "just text", "{}"):
        (tmp_path / "k").write_text(text)
        with pytest.raises(ConfigError):
            from_kubeconfig(tmp_path / "k")
    with pytest.raises(ConfigError, match="cannot be read"):
        from_kubeconfig(tmp_path / "nothing")


def test_a_repr_shows_no_token() -> None:
    assert "sesame" not in repr(Access("https://x", token="sesame", key="sesame"))
