"""What every request must pass, and what every answer carries, so that no other site acts through a browser.

A page of another site cannot make a browser ask here unseen: the Host must be one of ours (DNS rebinding), what changes
something must come from a page of this origin (Origin, Sec-Fetch-Site) and bring the session's token (CSRF).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), clipboard-read=()",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex, nofollow",
}
HSTS: Final = "max-age=31536000"
SAFE: Final = frozenset({"GET", "HEAD"})
TOKEN_HEADER: Final = "X-CSRF-Token"  # noqa: S105
TOKEN_FIELD: Final = "csrf"  # noqa: S105
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Forbidden(Exception):
    """The request is not taken. The message says why, for people."""


def host_of(header: str) -> str:
    """The host in a Host header, without its port, in lower case; empty if it is none."""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port
    except ValueError:
        return ""
    if parts.path or parts.query or parts.fragment or parts.username is not None or not parts.netloc:
        return ""
    return (parts.hostname or "").rstrip(".")


class Guard:
    """`hosts`: names that browsers may use. `secure`: it is reached by HTTPS, whoever ends the TLS. `origins`: more
    that pages may come from than the one that the Host says."""

    def __init__(self, hosts: Iterable[str], *, secure: bool, origins: Iterable[str] = ()) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._scheme = "https" if secure else "http"
        self._origins = frozenset(origins)
        self.headers = {**HEADERS, **({"Strict-Transport-Security": HSTS} if secure else {})}

    def check_host(self, request: web.BaseRequest) -> None:
        """Raises Forbidden."""
        if host_of(request.headers.get("Host", "")) not in self._hosts:
            raise Forbidden("This console is not reached by that name. Next: use the address that it was given.")

    def check_origin(self, request: web.BaseRequest) -> None:
        """Of a request that changes something, and comes with a cookie. Raises Forbidden."""
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None and site != "same-origin":
            raise Forbidden(_ELSEWHERE)
        origin = request.headers.get("Origin")
        if origin is None:
            if site is None:
                raise Forbidden("The request does not say which page it comes from (Origin). Next: use a browser.")
            return
        if origin not in self._origins and origin != f"{self._scheme}://{request.headers.get('Host', '')}":
            raise Forbidden(_ELSEWHERE)

    def check_token(self, given: str, expected: str) -> None:
        """Raises Forbidden."""
        if not expected or not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
            raise Forbidden("The form is of another session, or too old. Next: load the page again.")

    def dress(self, response: web.StreamResponse) -> None:
        """Puts on what is missing: an answer that has a policy of its own keeps it."""
        for name, value in self.headers.items():
            response.headers.setdefault(name, value)
        response.headers["Server"] = "ostiary"


_ELSEWHERE: Final = "The request comes from a page of another site. Next: do it on a page of this console."


def safe_path(text: str) -> str:
    """Where to go after signing in: a path of this console; `/` for anything else."""
    if not text.startswith("/") or text.startswith("//") or "\\" in text or not text.isprintable() or len(text) > 2000:
        return "/"
    parts = urlsplit(text)
    if parts.scheme or parts.netloc or parts.path.startswith(("//", "/signin", "/signout")):
        return "/"
    return text
