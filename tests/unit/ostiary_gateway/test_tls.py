"""The certificate that a gateway makes for itself: standalone for its address, in a pod for its Services."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from support.feeds import connection

from ostiary_gateway.pod import Pod
from ostiary_gateway.tls import TLSError, listener_context, own_certificate

POD = Pod("shop", "app", "pod-0", "10.0.0.7", None)  # type: ignore[arg-type]


def names(path: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(each.value) for each in found]


def test_in_a_pod_it_is_for_the_names_of_the_service(tmp_path: Path) -> None:
    path, _ = own_certificate(tmp_path, "0.0.0.0", POD.host_names("app.db"))
    service = POD.host_names("app.db")[0]
    assert service.startswith("ostiary-app-db-")
    assert names(path) == [
        service, f"{service}.shop", f"{service}.shop.svc", f"{service}.shop.svc.cluster.local",
    ]  # fmt: skip


def test_connections_of_one_gateway_have_one_authority_and_a_certificate_each(tmp_path: Path) -> None:
    one, _ = own_certificate(tmp_path, "0.0.0.0", POD.host_names("one"))
    ca = (tmp_path / "ca.crt").read_bytes()
    two, _ = own_certificate(tmp_path, "0.0.0.0", POD.host_names("two"))
    assert one != two
    assert (tmp_path / "ca.crt").read_bytes() == ca
    before = one.read_bytes()
    assert own_certificate(tmp_path, "0.0.0.0", POD.host_names("one"))[0].read_bytes() == before


def test_standalone_it_is_for_the_address_as_before(tmp_path: Path) -> None:
    path, key = own_certificate(tmp_path, "192.0.2.7")
    assert path.name == "tls.crt"
    assert {"localhost", "192.0.2.7"} <= set(names(path))
    assert key.stat().st_mode & 0o777 == 0o600


def test_plain_text_is_for_loopback_or_for_who_says_so_in_a_cluster(tmp_path: Path) -> None:
    plain = connection(listener={"port": 1, "tls": {"mode": "Disable"}})
    with pytest.raises(TLSError, match="loopback only"):
        listener_context(plain, None, tmp_path, "0.0.0.0")
    assert listener_context(plain, None, tmp_path, "127.0.0.1") is None
    assert listener_context(plain, None, tmp_path, "0.0.0.0", services=POD.host_names("app")) is None
