"""Certificates for tests: a CA, a good server certificate, one with a wrong name, one that has expired."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A PEM certificate and its PEM key, in files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA and the server certificates that it signed. `other` is a CA that signed none of them."""

    ca: Path
    other: Path
    server: KeyPair
    wrong_name: KeyPair
    expired: KeyPair


def make_authority(directory: Path) -> Authority:
    """Write everything below `directory` and say where it is."""
    directory.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    ca_key, ca = _authority("Test CA", now)
    _, other = _authority("Another CA", now)
    good = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]

    def issue(name: str, names: list[x509.GeneralName], start: datetime.datetime, end: datetime.datetime) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(ca.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        pair = KeyPair(directory / f"{name}.crt", directory / f"{name}.key")
        _write(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        _write(
            pair.key,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
        return pair

    server = issue("server", good, now - day, now + 30 * day)
    wrong_name = issue("wrong-name", [x509.DNSName("elsewhere.example")], now - day, now + 30 * day)
    expired = issue("expired", good, now - 30 * day, now - day)
    _write(directory / "ca.crt", ca.public_bytes(serialization.Encoding.PEM))
    _write(directory / "other.crt", other.public_bytes(serialization.Encoding.PEM))
    return Authority(directory / "ca.crt", directory / "other.crt", server, wrong_name, expired)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _authority(name: str, now: datetime.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 60 * day)
        .not_valid_after(now + 365 * day)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


class TrustDomain:
    """A SPIFFE trust domain: an authority, and the certificates of workloads, right and wrong."""

    def __init__(self, directory: Path, name: str = "example.org") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._directory = directory
        self._key, self._ca = _authority(f"Authority of {name}", datetime.datetime.now(datetime.UTC))
        self._issued = 0

    @property
    def bundle(self) -> bytes:
        """The authority's certificate, PEM."""
        return self._ca.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        *uris: str,
        names: tuple[str, ...] = (),
        ca: bool | None = False,
        usage: str | None = "signature",
        begins: float = -60,
        lasts: float = 3600,
        purpose: x509.ObjectIdentifier | None = None,
    ) -> KeyPair:
        """A workload's certificate, by default an X.509-SVID of the first id. Times in seconds from now.

        `usage`: signature, sign-certificates, encipher, or None for no keyUsage; `ca` None: no basicConstraints.
        """
        now = datetime.datetime.now(datetime.UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        start = now + datetime.timedelta(seconds=begins)
        others: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name("workload"))
            .issuer_name(self._ca.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(max(start, now + datetime.timedelta(seconds=lasts)))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if uris or others:
            alternatives = [*(x509.UniformResourceIdentifier(uri) for uri in uris), *others]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if usage is not None:
            builder = builder.add_extension(
                x509.KeyUsage(
                    digital_signature=usage != "encipher",
                    key_encipherment=usage == "encipher",
                    key_cert_sign=usage == "sign-certificates",
                    content_commitment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    crl_sign=False,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        if purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        self._issued += 1
        base = self._directory / f"workload-{self._issued}"
        pair = KeyPair(base.with_suffix(".crt"), base.with_suffix(".key"))
        _write(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        _write(
            pair.key,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
        return pair


def der(pair: KeyPair) -> bytes:
    """The certificate as TLS carries it."""
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    return certificate.public_bytes(serialization.Encoding.DER)
