"""Client certificates: which are X.509-SVIDs of the trust domain, and who they stand for."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.certificates import TrustDomain, der

from ostiary_api.authentication import MTLS
from ostiary_api.meta import ObjectMeta
from ostiary_api.secret import Secret
from ostiary_gateway.identity.mtls import BadCertificate, CertificateIdentities, read_svid, service_account
from ostiary_gateway.identity.proof import LoginRefused

ID = "spiffe://example.org/agents/planner"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> TrustDomain:
    return TrustDomain(tmp_path_factory.mktemp("domain"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> TrustDomain:
    return TrustDomain(tmp_path_factory.mktemp("other"), "other.org")


def identities(*bundles: bytes, **config: object) -> CertificateIdentities:
    spec = MTLS.model_validate({"caRef": {"name": "trust"}, "trustDomain": "example.org", **config})
    return CertificateIdentities(spec, Secret(metadata=ObjectMeta(name="trust"), data={"ca.crt": b"".join(bundles)}))


def test_an_svid_proves_a_workload(domain: TrustDomain) -> None:
    found = identities(domain.bundle).identify(der(domain.issue(ID, names=("planner.example.org",))), time.time())
    assert (found.subject["kind"], found.subject["username"], found.subject["groups"]) == ("Workload", ID, [])
    assert found.expires is not None
    assert time.time() < found.expires < time.time() + 3601


def test_ids_of_service_accounts_are_that_only_where_the_connection_says_so(domain: TrustDomain) -> None:
    certificate = der(domain.issue("spiffe://example.org/ns/agents/sa/planner"))
    plain = identities(domain.bundle).identify(certificate, time.time()).subject
    assert (plain["kind"], plain["namespace"]) == ("Workload", "")
    mapped = identities(domain.bundle, serviceAccounts=True).identify(certificate, time.time()).subject
    assert (mapped["kind"], mapped["namespace"], mapped["name"]) == ("ServiceAccount", "agents", "planner")
    assert mapped["username"] == "spiffe://example.org/ns/agents/sa/planner"


@pytest.mark.parametrize(
    "path",
    [
        "/ns/agents/sa/planner/x",
        "/x/ns/agents/sa/planner",
        "/ns/Agents/sa/p",
        "/ns//sa/p",
        "/ns/a/sa/",
        f"/ns/{'a' * 64}/sa/p",
    ],
)
def test_other_paths_are_no_service_accounts(path: str) -> None:
    assert service_account(path) is None


def refusal(found: CertificateIdentities, certificate: bytes, now: float | None = None) -> str:
    with pytest.raises(LoginRefused) as caught:
        found.identify(certificate, time.time() if now is None else now)
    assert caught.value.kind == "certificate"
    assert "trust domain example.org" in caught.value.hint
    return caught.value.reason


def test_what_is_no_svid_is_refused_with_its_reason(domain: TrustDomain) -> None:
    known = identities(domain.bundle)
    for says, certificate in (
        ("another trust domain", domain.issue("spiffe://other.org/agents/planner")),
        ("and has 2", domain.issue(ID, "spiffe://example.org/agents/admin")),
        ("and has 2", domain.issue(ID, "https://example.org/")),
        ("and has 0", domain.issue()),
        ("and has 0", domain.issue(names=("planner.example.org",))),
        ("CA:TRUE", domain.issue(ID, ca=True)),
        ("neither keyCertSign", domain.issue(ID, usage="sign-certificates")),
        ("digitalSignature", domain.issue(ID, usage="encipher")),
        ("keyUsage", domain.issue(ID, usage=None)),
    ):
        assert says in refusal(known, der(certificate))
    assert "expired" in refusal(known, der(domain.issue(ID, begins=-900, lasts=-300)))
    assert "not valid yet" in refusal(known, der(domain.issue(ID, begins=900, lasts=1800)))


def test_a_leaf_without_basic_constraints_is_no_authority(domain: TrustDomain) -> None:
    assert read_svid(der(domain.issue(ID, ca=None))).id == ID


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://example.org/a/",
        "spiffe://example.org//a",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/./a",
        "spiffe://example.org/a?b=c",
        "spiffe://example.org/a#b",
        "spiffe://example.org:443/a",
        "spiffe://me@example.org/a",
        "spiffe://EXAMPLE.org/a",
        "SPIFFE://example.org/a",
        "spiffe://example.org/a%20b",
        "spiffe:///a",
        "spiffe:example.org/a",
        "https://example.org/a",
        "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "spiffe://example.org/" + "a" * 600,
    ],
)
def test_uris_that_are_no_spiffe_ids_of_workloads(domain: TrustDomain, uri: str) -> None:
    with pytest.raises(BadCertificate, match="no SPIFFE id"):
        read_svid(der(domain.issue(uri)))


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    with pytest.raises(BadCertificate):
        read_svid(data)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(at=st.integers(0, 10_000), value=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_no_changed_certificate_crashes_the_reader(at: int, value: int) -> None:
    changed = bytearray(SAMPLE)
    changed[at % len(changed)] = value
    with contextlib.suppress(BadCertificate):
        assert read_svid(bytes(changed)).id.startswith("spiffe://")


def test_new_authorities_end_no_session_and_lost_ones_do(domain: TrustDomain, other: TrustDomain) -> None:
    found = identities(domain.bundle).identify(der(domain.issue(ID)), time.time())

    def holds(*bundles: bytes, **config: object) -> bool:
        return identities(*bundles, **config).holds(found.certificate, found.subject)

    assert holds(domain.bundle)
    assert holds(domain.bundle, other.bundle)
    assert not holds(other.bundle)
    assert not holds(domain.bundle, trustDomain="other.org")
    assert holds(domain.bundle, serviceAccounts=True), "its path is no ServiceAccount's"


def test_a_session_does_not_change_its_kind(domain: TrustDomain) -> None:
    certificate = der(domain.issue("spiffe://example.org/ns/agents/sa/planner"))
    found = identities(domain.bundle).identify(certificate, time.time())
    assert not identities(domain.bundle, serviceAccounts=True).holds(found.certificate, found.subject)


@pytest.mark.parametrize(
    "bundle", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_bundle_without_certificates_is_refused(bundle: bytes) -> None:
    with pytest.raises((ValueError, OSError)):
        identities(bundle)


def _sample() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        return der(TrustDomain(Path(directory)).issue(ID))


SAMPLE = _sample()
