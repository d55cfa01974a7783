"""The settings of the console: every mistake has its line, and no way is left open by one."""

from __future__ import annotations

import pytest

from ostiary_console.settings import Settings
from ostiary_store.settings import SettingsError, parse_as

GOOD = """
listen: 0.0.0.0:8443
url: https://console.example.com
tls: {cert: tls.crt, key: tls.key}
store: {urlFile: url}
signin: {tokens: true}
"""
ISSUER = "{name: corp, issuer: 'https://login.example.com', clientID: console}"


def test_what_the_chart_writes_is_read() -> None:
    found = parse_as(Settings, GOOD)
    assert (found.sessions.idle, found.sessions.absolute, found.cluster) == (1800, 43_200, True)


@pytest.mark.parametrize(
    ("more", "prefix"),
    [("", "https://login.example.com#"), ("usernameClaim: email", ""), ("usernamePrefix: '-'", ""),
     ("usernamePrefix: 'oidc:'", "oidc:")],
)  # fmt: skip
def test_names_are_made_as_the_api_server_makes_them(more: str, prefix: str) -> None:
    issuer = ISSUER.replace("}", f", {more}}}") if more else ISSUER
    found = parse_as(Settings, GOOD.replace("tokens: true", f"oidc: [{issuer}]"))
    assert found.signin.oidc[0].prefix == prefix


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("tls: {cert: tls.crt, key: tls.key}\n", "", "listen needs tls"),
        ("tls: {cert: tls.crt, key: tls.key}\n", "behindProxy: true\ntls: {cert: a, key: b}\n", "give no tls"),
        ("https://console.example.com", "http://console.example.com", "must begin with https"),
        ("https://console.example.com", "https://console.example.com/path", "no address of a site"),
        ("https://console.example.com", "https://ann:x@console.example.com", "no address of a site"),
        ("signin: {tokens: true}", "signin: {}", "no way in"),
        ("tokens: true", f"oidc: [{ISSUER}, {ISSUER}]", "different names"),
        ("tokens: true", f"oidc: [{ISSUER.replace('https', 'http')}]", "https://"),
        ("tokens: true", f"oidc: [{ISSUER[:-1]}, scopes: [email]}}]", "openid"),
        ("tokens: true", f"oidc: [{ISSUER[:-1]}, groupsPrefix: 'system:'}}]", "system:"),
        ("tokens: true", f"oidc: [{ISSUER[:-1]}, clientSecret: hidden}}]", "clientSecret"),
        ("tokens: true}", "tokens: true}\ncluster: false", "cluster must be true"),
        ("tokens: true}", "tokens: true}\nhosts: ['*']", "hosts"),
    ],
)
def test_a_mistake_is_told(before: str, after: str, says: str) -> None:
    assert before in GOOD
    with pytest.raises(SettingsError, match=says):
        parse_as(Settings, GOOD.replace(before, after))
