"""Hosts and ways back, as an attacker would write them."""

from __future__ import annotations

import pytest

from ostiary_console.guard import host_of, safe_path


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("console.example.com", "console.example.com"), ("Console.Example.Com:8443", "console.example.com"),
        ("console.example.com.", "console.example.com"), ("[::1]:9912", "::1"), ("127.0.0.1", "127.0.0.1"), ("", ""),
        ("a@b", ""), ("a/b", ""), ("a?b", ""), ("a#b", ""), ("a:port", ""), ("a:99999", ""), ("[::1", ""),
    ],
)  # fmt: skip
def test_the_host_of_a_header(header: str, host: str) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/sessions?q=a", "/sessions?q=a"), ("/", "/"), ("", "/"), ("sessions", "/"), ("//evil", "/"),
        ("/\\evil", "/"), ("https://evil/", "/"), ("/a\nb", "/"), ("/" + "a" * 3000, "/"), ("/signin?next=/", "/"),
        ("/signout", "/"), ("javascript:x", "/"), ("/a//b", "/a//b"),
    ],
)  # fmt: skip
def test_the_way_after_signing_in(text: str, path: str) -> None:
    assert safe_path(text) == path
