"""JSON Web Tokens and Key Sets, read strictly and without I/O: RFC 7515, 7517, 7518, 7519, 8037, 8725.

Only what is wanted is taken: compact serialization, asymmetric signatures, keys that the issuer published. Everything
in a token's header that could choose a key or change what is signed (`jku`, `jwk`, `x5u`, `x5c`, `crit`, `b64`) is
refused or never read. PyJWT does the arithmetic.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import (
    ECAlgorithm,
    OKPAlgorithm,
    RSAAlgorithm,
    get_default_algorithms,
)
from jwt.exceptions import PyJWTError

MAX_TOKEN: Final = 16_000
"""Characters of a JWT."""
MAX_JWKS: Final = 512 * 1024
"""Bytes of a key set."""
MAX_KEYS: Final = 128
RSA_BITS: Final = range(2048, 8193)
"""Shorter keys are weak (RFC 7518, 3.3); longer ones cost too much to use."""

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final[dict[str, str]] = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_ALGORITHMS: Final = get_default_algorithms()


class BadToken(Exception):
    """The token is refused. The text says why and holds no part of it but names of algorithms and claims."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key of an issuer. `thumbprint`: sha256 of its SubjectPublicKeyInfo, hex."""

    kid: str | None
    algorithms: frozenset[str]
    thumbprint: str
    key: PublicKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Header:
    """What a token says of itself. `type` without `application/`, in lower case; None if it does not say."""

    algorithm: str
    kid: str | None
    type: str | None


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A token taken apart. Nothing of it may be believed before `verify`."""

    header: Header
    issuer: str
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    payload: Mapping[str, object] = field(repr=False)

    def verify(self, key: VerifyingKey) -> Mapping[str, object]:
        """The claims, if this key signed them with the header's algorithm. Raises BadToken."""
        algorithm = self.header.algorithm
        if algorithm not in key.algorithms:
            raise BadToken(f"its algorithm {algorithm} does not fit the issuer's key")
        try:
            good = _ALGORITHMS[algorithm].verify(self.signed, key.key, self.signature)
        except (PyJWTError, ValueError, TypeError, ArithmeticError):
            good = False
        if not good:
            raise BadToken("its signature is wrong")
        return self.payload


def looks_like_a_jwt(secret: str) -> bool:
    """Whether somebody who sent this meant a JWT: three parts, the first of which begins like a JSON object."""
    return secret.startswith("eyJ") and secret.count(".") == 2


def parse_token(token: str) -> UnverifiedToken:
    """Takes a token apart. Raises BadToken."""
    if len(token) > MAX_TOKEN:
        raise BadToken(f"it is longer than {MAX_TOKEN} characters")
    if not _COMPACT.fullmatch(token):
        raise BadToken("it is not three parts in base64url")
    parts = token.split(".")
    header = parse_object(_decode(parts[0]), "header")
    payload = parse_object(_decode(parts[1]), "payload")
    issuer = payload.get("iss")
    if not isinstance(issuer, str):
        raise BadToken("it has no iss")
    return UnverifiedToken(
        _header(header), issuer, f"{parts[0]}.{parts[1]}".encode(), _decode(parts[2]), payload
    )


def _header(header: Mapping[str, object]) -> Header:
    if "crit" in header:
        raise BadToken("its header has crit, and no extension is known here")
    if "b64" in header:
        raise BadToken("its header has b64")
    if "enc" in header or "zip" in header:
        raise BadToken("it is encrypted or compressed")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or len(algorithm) > 32:
        raise BadToken("its header has no alg")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= 512):
        raise BadToken("the kid in its header is no text of 1 to 512 characters")
    if kind is not None and not (isinstance(kind, str) and len(kind) <= 128):
        raise BadToken("the typ in its header is no short text")
    return Header(algorithm, kid, kind.lower().removeprefix("application/") if kind is not None else None)


class KeySet:
    """The keys of an issuer that can verify."""

    def __init__(self, keys: tuple[VerifyingKey, ...]) -> None:
        self.keys = keys
        self.thumbprints = frozenset(key.thumbprint for key in keys)

    def find(self, header: Header) -> VerifyingKey | None:
        """The one key that this header can mean, None if there is none. Raises BadToken if there are several."""
        fit = [key for key in self.keys if header.algorithm in key.algorithms]
        if header.kid is not None:
            fit = [key for key in fit if key.kid == header.kid]
        if len({key.thumbprint for key in fit}) > 1:
            raise BadToken(
                "it names no key (kid), and the issuer has several that it could mean"
                if header.kid is None
                else "the issuer has several keys of its kid"
            )
        return fit[0] if fit else None


def parse_jwks(data: bytes) -> KeySet:
    """The keys of a JSON Web Key Set that can be used; others are passed over. Raises ValueError if none is left."""
    if len(data) > MAX_JWKS:
        raise ValueError(f"the key set is larger than {MAX_JWKS >> 10} KiB")
    try:
        document = parse_object(data, "key set")
    except BadToken as problem:
        raise ValueError(str(problem)) from None
    items = document.get("keys")
    if not isinstance(items, list):
        raise ValueError("the key set has no list keys")
    if len(items) > MAX_KEYS:
        raise ValueError(f"the key set has more than {MAX_KEYS} keys")
    keys = tuple(key for item in items if (key := _key(item)) is not None)
    if not keys:
        raise ValueError("the key set has no usable key: RSA of 2048 to 8192 bits, P-256, P-384, P-521, Ed25519")
    return KeySet(keys)


def _key(item: object) -> VerifyingKey | None:
    if not isinstance(item, dict) or item.get("use", "sig") != "sig" or "d" in item or "k" in item:
        return None
    operations = item.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    kid, pinned = item.get("kid"), item.get("alg")
    if kid is not None and not isinstance(kid, str):
        return None
    read = {"RSA": RSAAlgorithm.from_jwk, "EC": ECAlgorithm.from_jwk, "OKP": OKPAlgorithm.from_jwk}
    kind = item.get("kty")
    if not isinstance(kind, str) or kind not in read or not _is_sane_modulus(item):
        return None
    try:
        key = cast("Callable[[dict[str, object]], PublicKey]", read[kind])(item)
    except (PyJWTError, ValueError, TypeError, KeyError, ArithmeticError):
        return None
    algorithms = _algorithms(key)
    if pinned is not None:
        algorithms &= {"EdDSA"} if pinned in ("Ed25519", "Ed448") else {str(pinned)}
    if not algorithms:
        return None
    public = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return VerifyingKey(kid, algorithms, hashlib.sha256(public).hexdigest(), key)


def _is_sane_modulus(item: Mapping[str, object]) -> bool:
    """Bounded before it is computed with."""
    return all(len(text) <= 2048 for name in ("n", "e", "x", "y") if isinstance(text := item.get(name), str))


def _algorithms(key: PublicKey) -> frozenset[str]:
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA if key.key_size in RSA_BITS else frozenset()
    if isinstance(key, ec.EllipticCurvePublicKey):
        name = _CURVES.get(key.curve.name)
        return frozenset({name}) if name is not None else frozenset()
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return frozenset({"EdDSA"})
    return frozenset()


def _decode(text: str) -> bytes:
    if len(text) % 4 == 1:
        raise BadToken("a part of it is not base64url")
    decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # One token, one spelling: bits beyond the last byte must be zero.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != text.encode():
        raise BadToken("a part of it is not base64url")
    return decoded


def parse_object(data: bytes, what: str) -> Mapping[str, object]:
    """A JSON object, each name once, with plain and finite values. Raises BadToken."""
    try:
        found: object = json.loads(
            data.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
    except (ValueError, RecursionError):
        raise BadToken(f"its {what} is not plain JSON") from None
    if not isinstance(found, dict):
        raise BadToken(f"its {what} is no JSON object")
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is not finite")
    return number
