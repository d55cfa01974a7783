"""Where messages and exports may go: what is https, and leads to no cloud's metadata."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

_METADATA: Final = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16"})
"""Where clouds give out a machine's credentials, besides the link-local addresses."""


def refused_address(address: str) -> bool:
    """Whether no receiver can rightly be at this address: a cloud's metadata, a link's own, nobody's."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_link_local or found.is_multicast or found.is_unspecified or str(found) in _METADATA


def url_problem(url: str, *, insecure: bool) -> str:
    """Why a URL is not used, without saying it: it may be a secret. Empty: it is fine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return "its URL cannot be read"
    if parts.scheme != "https" and not (insecure and parts.scheme == "http"):
        return "its URL is not https (insecure: true allows http)"
    if not host:
        return "its URL names no host"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return ""
    return "its URL leads to an address that is no receiver's" if refused_address(host) else ""
