"""TLS contexts of both legs, and the certificate that a standalone gateway makes for itself."""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import os
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ostiary_api.connection import Connection, UpstreamTLS
from ostiary_api.secret import Secret

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 397
RENEW_DAYS: Final = 30
_ALPN: Final[dict[str, list[str]]] = {"Postgres": ["postgresql"], "Kubernetes": ["http/1.1"]}
"""Direct TLS (PostgreSQL 17) requires ALPN. Clients of an API server come down to HTTP/1.1 by it."""


class TLSError(Exception):
    """A certificate or key cannot be used. The message says which and why."""


def upstream_context(tls: UpstreamTLS, ca: Secret | None, *, alpn: tuple[str, ...] = ()) -> ssl.SSLContext | None:
    """The context towards a target, None for mode Disable. `ca` is the Secret that caRef names."""
    if tls.mode == "Disable":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = tls.mode == "VerifyFull"
    context.verify_mode = ssl.CERT_NONE if tls.mode == "Require" else ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if tls.mode == "Require":
        return context
    if tls.ca_ref is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    if ca is None or tls.ca_ref.key not in ca.data:
        raise TLSError(f"upstream.tls.caRef: Secret {tls.ca_ref.name} with key {tls.ca_ref.key} does not exist")
    try:
        context.load_verify_locations(cadata=ca.text(tls.ca_ref.key))
    except (ssl.SSLError, ValueError) as problem:
        where = f"{tls.ca_ref.name}/{tls.ca_ref.key}"
        raise TLSError(f"upstream.tls.caRef: {where} holds no PEM certificate: {problem}") from None
    return context


class _Handshake(ssl.SSLObject):
    """Keeps the alert of a handshake that a client's certificate has ended, which uvloop would not send."""

    outgoing: ssl.MemoryBIO | None = None

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as problem:
            if self.outgoing is not None:
                _ALERTS[problem] = self.outgoing.read()
            raise


class _ListenerContext(ssl.SSLContext):
    sslobject_class = _Handshake

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool = False,
        server_hostname: str | bytes | None = None, session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:  # fmt: skip
        found = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if isinstance(found, _Handshake):
            found.outgoing = outgoing
        return found


_ALERTS: Final[WeakKeyDictionary[ssl.SSLCertVerificationError, bytes]] = WeakKeyDictionary()


def alert_of(problem: ssl.SSLCertVerificationError) -> bytes:
    """What a client must still be sent, so that it hears why its certificate was not accepted."""
    return _ALERTS.pop(problem, b"")


def _server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = _ListenerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def listener_context(
    connection: Connection, secret: Secret | None, data: Path, listen: str, *, services: tuple[str, ...] = ()
) -> ssl.SSLContext | None:
    """The context towards agents: from the listener's Secret, else from the gateway's own authority in `data`.

    None for mode Disable, which only a loopback address may have. `services`: in a cluster, the names of the
    Connection's Service; then Disable is allowed, since who serves in clear there has said so. Raises TLSError.
    """
    tls = connection.spec.listener.tls
    if tls.mode == "Disable":
        if not services and not is_loopback(listen):
            raise TLSError(
                f"listener.tls.mode Disable is for loopback only, and the gateway listens on {listen}: "
                "an agent's token would cross the network in clear; leave the mode out, or listen on 127.0.0.1"
            )
        return None
    if tls.secret_ref is None:
        context = own_context(data, listen, services)
    else:
        if secret is None:
            raise TLSError(f"listener.tls.secretRef: Secret {tls.secret_ref.name} does not exist")
        context = _context_of_secret(secret)
    if (alpn := _ALPN.get(connection.spec.protocol)) is not None:
        context.set_alpn_protocols(alpn)
    return context


def own_context(data: Path, listen: str, services: tuple[str, ...] = ()) -> ssl.SSLContext:
    """A context with a certificate that the gateway makes for itself."""
    context = _server_context(*own_certificate(data / "tls", listen, services))
    context.set_alpn_protocols(["postgresql"])
    return context


def _context_of_secret(secret: Secret) -> ssl.SSLContext:
    missing = [key for key in ("tls.crt", "tls.key") if key not in secret.data]
    if missing:
        raise TLSError(f"Secret {secret.key} has no {' and no '.join(missing)}")
    # ssl loads key material from files only: a private directory that is gone when this returns.
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("tls.crt", "tls.key")]
        for path in paths:
            path.touch(0o600)
            path.write_bytes(secret.data[path.name])
        try:
            return _server_context(*paths)
        except (ssl.SSLError, OSError) as problem:
            raise TLSError(f"Secret {secret.key}: its certificate and key cannot be used: {problem}") from None


def is_loopback(host: str) -> bool:
    """True for 127.0.0.0/8, ::1 and localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_certificate(folder: Path, listen: str, services: tuple[str, ...] = ()) -> tuple[Path, Path]:
    """Certificate and key of a gateway, made at the first start and renewed before they expire.

    `ca.crt` beside them is what an agent passes as sslrootcert. Files: ca.crt, ca.key, tls.crt, tls.key (keys 0600);
    the certificate of a Service has its first name in the place of `tls`, and all its names in it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker of this gateway may need it just now
        if services:
            return _made_certificate(folder, list(services), services[0])
        return _made_certificate(folder, _names(listen), "tls")


def _made_certificate(folder: Path, names: list[str], leaf_name: str) -> tuple[Path, Path]:
    ca_key_path, ca_path = folder / "ca.key", folder / "ca.crt"
    key_path, path = folder / f"{leaf_name}.key", folder / f"{leaf_name}.crt"
    if not (ca_path.exists() and ca_key_path.exists()) or _expires_soon(ca_path):
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca = _certificate("Ostiary standalone CA", ca_key, None, ca_key, CA_DAYS, [])
        _write_private(ca_key_path, ca_key)
        ca_path.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        for old in folder.glob("*.crt"):
            if old != ca_path:
                old.unlink()
    if path.exists() and key_path.exists() and not _expires_soon(path) and _covers(path, names):
        return path, key_path
    ca = x509.load_pem_x509_certificate(ca_path.read_bytes())
    signer = serialization.load_pem_private_key(ca_key_path.read_bytes(), None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TLSError(f"{ca_key_path} is not an elliptic curve key; remove {folder} to make a new authority")
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _certificate("Ostiary gateway", key, ca, signer, LEAF_DAYS, names)
    _write_private(key_path, key)
    path.write_bytes(leaf.public_bytes(serialization.Encoding.PEM) + ca.public_bytes(serialization.Encoding.PEM))
    return path, key_path


def _names(listen: str) -> list[str]:
    names = ["localhost", "127.0.0.1", "::1", socket.gethostname()]
    if listen not in ("", "0.0.0.0", "::", *names):  # noqa: S104 - compared, not bound
        names.append(listen)
    return names


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _certificate(
    common_name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    days: int,
    names: list[str],
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    is_ca = issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_ca, content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_agreement=False, key_cert_sign=is_ca, crl_sign=is_ca, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
    )  # fmt: skip
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _expires_soon(path: Path) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        return True
    limit = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=RENEW_DAYS)
    return certificate.not_valid_after_utc < limit


def _covers(path: Path, names: list[str]) -> bool:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return all(_alternative(name) in found for name in names)


def _write_private(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
