"""Client certificates with SPIFFE ids: asked for in the TLS handshake, which checks the chain; read here.

Sources: SPIFFE-ID 2 (form of an id), X509-SVID 2 to 5 (one URI SAN, no CA, digitalSignature), RFC 5280.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from ostiary_api.authentication import MTLS
from ostiary_api.secret import Secret
from ostiary_policy.facts import SubjectFacts

from .proof import Identity, LoginRefused, bounded

MAX_SPIFFE_ID: Final = 512
"""Characters. SPIFFE allows 2048; a user name has at most 512 here."""

_UNREADABLE: Final = (
    ValueError, TypeError, OverflowError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType,
)  # fmt: skip
_ID: Final = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/[A-Za-z0-9._-]+)+)")
_SERVICE_ACCOUNT: Final = re.compile(r"/ns/([a-z0-9]([-a-z0-9]*[a-z0-9])?)/sa/([a-z0-9]([-a-z0-9.]*[a-z0-9])?)")


class BadCertificate(Exception):
    """The certificate is no X.509-SVID of this trust domain. The text says why."""


@dataclass(frozen=True, slots=True)
class Svid:
    """What a certificate proves: an id, from and until when (seconds since the epoch)."""

    trust_domain: str
    path: str
    begins: float
    ends: float

    @property
    def id(self) -> str:
        return f"spiffe://{self.trust_domain}{self.path}"


def read_svid(der: bytes) -> Svid:
    """The SPIFFE id of a leaf certificate. Its chain was checked already. Raises BadCertificate."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = certificate.extensions
        begins, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    except _UNREADABLE:
        raise BadCertificate("it cannot be read") from None
    _check_leaf(extensions)
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    if len(uris) != 1:
        raise BadCertificate(f"it must have exactly one URI as a subject alternative name (SAN), and has {len(uris)}")
    found = _ID.fullmatch(uris[0]) if len(uris[0]) <= MAX_SPIFFE_ID else None
    if found is None or any(part in (".", "..") for part in found[2].split("/")):
        raise BadCertificate(f"{bounded(uris[0])} is no SPIFFE id of a workload: spiffe://TRUST-DOMAIN/PATH")
    return Svid(found[1], found[2], begins, ends)


def _check_leaf(extensions: x509.Extensions) -> None:
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise BadCertificate("it is the certificate of an authority (CA:TRUE), not of a workload")
    except x509.ExtensionNotFound:
        pass
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise BadCertificate("it does not say what its key is for (keyUsage)") from None
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise BadCertificate("its keyUsage must have digitalSignature, and neither keyCertSign nor cRLSign")


def service_account(path: str) -> tuple[str, str] | None:
    """Namespace and name of the ServiceAccount that an id's path stands for (`/ns/NAMESPACE/sa/NAME`)."""
    found = _SERVICE_ACCOUNT.fullmatch(path)
    return (found[1], found[3]) if found is not None and len(found[1]) <= 63 and len(found[3]) <= 253 else None


class CertificateIdentities:
    """The agents of one trust domain. Raises ValueError or ssl.SSLError if the bundle holds no certificate."""

    def __init__(self, spec: MTLS, bundle: Secret) -> None:
        self.spec = spec
        self._bundle = bundle.text(spec.ca_ref.key)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=self._bundle)
        authorities = x509.load_pem_x509_certificates(self._bundle.encode())
        self._authorities = frozenset(
            hashlib.sha256(item.tbs_certificate_bytes).hexdigest()[:32] for item in authorities
        )

    def ask(self, context: ssl.SSLContext) -> None:
        """Lets a listener's context ask for a certificate. One that is shown must be of the trust domain's
        authorities; that none was shown is told by words, after the handshake."""
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self._bundle)
        # A resumed session would bring its certificate along unchecked.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0

    @property
    def expected(self) -> str:
        return f"a client certificate with a SPIFFE id of the trust domain {self.spec.trust_domain}"

    def identify(self, der: bytes, now: float) -> Identity:
        """Who a certificate stands for that the handshake has accepted. Raises LoginRefused."""
        try:
            svid = read_svid(der)
            if svid.trust_domain != self.spec.trust_domain:
                raise BadCertificate(f"{bounded(svid.id)} is of another trust domain")
            # The handshake has looked, but a resumed one has not.
            if now >= svid.ends:
                raise BadCertificate("it has expired")
            if now < svid.begins:
                raise BadCertificate("it is not valid yet")
        except BadCertificate as problem:
            raise LoginRefused(
                "certificate", f"certificate: {problem}", f"The client certificate is not accepted: {problem}.",
                f"Connect with {self.expected}.",
            ) from None  # fmt: skip
        account = service_account(svid.path) if self.spec.service_accounts else None
        subject = SubjectFacts(
            username=svid.id, uid="", groups=[], kind="ServiceAccount" if account else "Workload",
            namespace=account[0] if account else "", name=account[1] if account else svid.id, claims={}, onBehalfOf="",
        )  # fmt: skip
        credential = " ".join(["mtls", svid.id, *sorted(self._authorities)])
        return Identity(subject, credential, "mtls", svid.ends, credential, (("certificate", svid.id),))

    def holds(self, credential: str, subject: SubjectFacts | None) -> bool:
        """Whether a certificate that was accepted still would be: all authorities that were trusted then are trusted
        now, and its id still means the same (`subject`, if the certificate alone proved it)."""
        _, identifier, *authorities = credential.split(" ")
        found = _ID.fullmatch(identifier)
        if found is None or found[1] != self.spec.trust_domain or not self._authorities.issuperset(authorities):
            return False
        mapped = self.spec.service_accounts and service_account(found[2]) is not None
        return subject is None or (subject["kind"] == "ServiceAccount") == mapped
