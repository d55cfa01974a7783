"""From the verified claims of a JWT to a subject: what an issuer's configuration wants of them. No I/O, no clock.

Sources: RFC 7519 (claims), RFC 8725 (best practices), RFC 8693 (act), RFC 8705 (cnf, x5t#S256), RFC 9068 (at+jwt),
OpenID Connect Core 5.7 (email_verified).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Final

from ostiary_api.authentication import OIDCIssuer, is_reserved
from ostiary_policy.facts import SubjectFacts

from .jose import BadToken, Header
from .proof import MAX_GROUP, MAX_GROUPS, MAX_USERNAME, bounded, is_name

MAX_CLAIMS: Final = 8192
"""Characters of all claims that policies may read, as JSON."""
MAX_DEPTH: Final = 8
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999."""


def check_header(issuer: OIDCIssuer, header: Header) -> None:
    """Raises BadToken unless algorithm and type are what the issuer's configuration has."""
    if header.algorithm not in issuer.algorithms:
        wanted = ", ".join(issuer.algorithms)
        raise BadToken(f"its algorithm {bounded(header.algorithm, 16)} is not one of {wanted}")
    wanted_type = issuer.token_type
    if wanted_type is not None and header.type != wanted_type.lower().removeprefix("application/"):
        raise BadToken(f"its typ is not {wanted_type}")


def check_claims(issuer: OIDCIssuer, claims: Mapping[str, object], now: float, certificate: bytes | None) -> float:
    """When the token ends, in seconds since the epoch, the clocks' difference included. Raises BadToken.

    `certificate`: the client's, DER, which a token that is bound to one must name.
    """
    if claims.get("iss") != issuer.issuer:
        raise BadToken("its iss is not the issuer's")
    _check_audience(issuer, claims.get("aud"))
    skew = issuer.clock_skew
    ends = _time(claims, "exp")
    if ends is None:
        raise BadToken("it has no exp")
    if now >= ends + skew:
        raise BadToken(f"it expired {_ago(now - ends)} ago")
    begins, issued = _time(claims, "nbf"), _time(claims, "iat")
    if begins is not None and begins > now + skew:
        raise BadToken(f"it is not valid yet (nbf), for another {_ago(begins - now)}")
    if issued is not None and issued > now + skew:
        raise BadToken(f"it was issued in the future (iat), {_ago(issued - now)} from now; compare the clocks")
    first = issued if issued is not None else begins if begins is not None else now
    if ends - first > issuer.max_token_lifetime:
        raise BadToken(
            f"it is valid for {_ago(ends - first)}, longer than maxTokenLifetime {_ago(issuer.max_token_lifetime)}"
        )
    _check_confirmation(claims, certificate)
    for name, wanted in issuer.required_claims.items():
        value = claims.get(name)
        if not (value == wanted or (isinstance(value, list) and wanted in value)):
            raise BadToken(f"its claim {name} is not what the Connection requires")
    return ends + skew


def subject_of(issuer: OIDCIssuer, claims: Mapping[str, object]) -> SubjectFacts:
    """Who a verified token stands for. Raises BadToken."""
    speaker: Mapping[str, object] = claims
    person = ""
    if "act" in claims:
        act = claims["act"]
        if issuer.delegation != "Actor":
            raise BadToken("it was delegated (it has the claim act), and delegation is Refuse for its issuer")
        if not isinstance(act, dict):
            raise BadToken("its claim act is no object")
        if act.get("iss", issuer.issuer) != issuer.issuer:
            raise BadToken("its claim act speaks of another issuer's actor")
        person = _username(issuer, claims, "")
        speaker = act
    inside = "act." if speaker is not claims else ""
    if issuer.on_behalf_of_claim is not None and issuer.on_behalf_of_claim in claims:
        person = _prefixed(issuer, claims[issuer.on_behalf_of_claim], issuer.on_behalf_of_claim)
    username = _username(issuer, speaker, inside)
    uid = speaker.get("sub")
    return SubjectFacts(
        username=username,
        uid=uid if is_name(uid, MAX_USERNAME) and isinstance(uid, str) else "",
        groups=_groups(issuer, speaker, inside),
        kind=issuer.subject_kind,
        namespace="",
        name=username,
        claims=_readable(issuer, claims),
        onBehalfOf=person,
    )


def _username(issuer: OIDCIssuer, claims: Mapping[str, object], inside: str) -> str:
    name = issuer.username_claim
    if name == "email" and claims.get("email_verified") is not True:
        raise BadToken(f"its claim {inside}email counts only with {inside}email_verified: true")
    return _prefixed(issuer, claims.get(name), inside + name)


def _prefixed(issuer: OIDCIssuer, value: object, claim: str) -> str:
    if value is None:
        raise BadToken(f"it has no claim {claim}")
    if not is_name(value, MAX_USERNAME - len(issuer.names_begin)):
        raise BadToken(f"its claim {claim} is no name: text that can be printed, of at most {MAX_USERNAME} characters")
    name = f"{issuer.names_begin}{value}"
    if is_reserved(name):
        raise BadToken(f"its claim {claim} makes a reserved name")
    return name


def _groups(issuer: OIDCIssuer, claims: Mapping[str, object], inside: str) -> list[str]:
    if issuer.groups_claim is None:
        return []
    claim = inside + issuer.groups_claim
    found = claims.get(issuer.groups_claim)
    if found is None:
        raise BadToken(f"it has no claim {claim}; a token of somebody without groups must have an empty list there")
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or len(listed) > MAX_GROUPS:
        raise BadToken(f"its claim {claim} is no list of at most {MAX_GROUPS} groups")
    groups: list[str] = []
    for group in listed:
        if not is_name(group, MAX_GROUP - len(issuer.names_begin)) or is_reserved(issuer.names_begin + group):
            raise BadToken(f"its claim {claim} has something that is no name of a group")
        groups.append(issuer.names_begin + group)
    return groups


def _readable(issuer: OIDCIssuer, claims: Mapping[str, object]) -> dict[str, object]:
    """The claims that policies may read: plain JSON that the policy engine takes, of bounded size."""
    found = {name: claims[name] for name in issuer.claims if name in claims}
    for name, value in found.items():
        if not _is_plain(value, MAX_DEPTH):
            raise BadToken(f"its claim {name} cannot be given to policies: nested too deeply, or no plain text")
    if len(json.dumps(found)) > MAX_CLAIMS:
        raise BadToken(f"its claims that policies may read are longer than {MAX_CLAIMS} characters")
    return found


def _is_plain(value: object, depth: int) -> bool:
    match value:
        case str():
            return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
        case bool() | float() | None:
            return True
        case int():
            return -(2**63) <= value < 2**63
        case list():
            return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
        case dict():
            return depth > 0 and all(_is_plain(k, 0) and _is_plain(item, depth - 1) for k, item in value.items())
    return False


def _check_audience(issuer: OIDCIssuer, found: object) -> None:
    if found is None:
        raise BadToken("it has no aud")
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise BadToken("its aud is no text and no list of text")
    if not any(item in issuer.audiences for item in listed):
        raise BadToken("it is for another audience")


def _check_confirmation(claims: Mapping[str, object], certificate: bytes | None) -> None:
    """A token that is bound to a key counts only for who shows that key."""
    if "cnf" not in claims:
        return
    cnf = claims["cnf"]
    wanted = cnf.get("x5t#S256") if isinstance(cnf, dict) and len(cnf) == 1 else None
    if not isinstance(wanted, str):
        raise BadToken("it is bound to a key (cnf) in a way that cannot be checked here; only x5t#S256 can")
    if certificate is None:
        raise BadToken("it is bound to a client certificate (cnf), and none was shown")
    if wanted != base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode():
        raise BadToken("it is bound to another client certificate (cnf)")


def _time(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_SECOND:
        raise BadToken(f"its {name} is no time")
    return float(value)


def _ago(seconds: float) -> str:
    whole = int(max(seconds, 0))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"
