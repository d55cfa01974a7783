"""What may stand in the settings of notifications, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostiary_notify.addresses import refused_address, url_problem
from ostiary_notify.settings import NotificationSettingsError, read_notifications

GOOD = """\
consoleURL: https://console.example
receivers:
- {name: oncall, type: Slack, urlFile: /run/secrets/slack}
- {name: bot, type: Webhook, url: https://bot.example/hook, secretFiles: [/run/secrets/whsec], steps: [Asked, Consumed]}
"""


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "notifications.yaml"
    path.write_text(GOOD)
    read = read_notifications(path)
    assert read.console_url == "https://console.example"
    assert [(each.name, each.steps) for each in read.receivers] == [
        ("oncall", ("Asked", "Approved", "Denied", "Expired")),
        ("bot", ("Asked", "Consumed")),
    ]


@pytest.mark.parametrize(
    ("receiver", "says"),
    [
        ("{name: a, type: Slack}", "exactly one of url, urlFile and urlEnv"),
        ("{name: a, type: Slack, url: 'https://a.example', urlEnv: URL}", "exactly one of url, urlFile and urlEnv"),
        ("{name: a, type: Slack, url: 'http://a.example'}", "set insecure: true"),
        ("{name: a, type: Webhook, url: 'https://a.example'}", "a Webhook is signed"),
        ("{name: a, type: Slack, url: 'https://a.example', secretEnvs: [A]}", "a Slack message is not signed"),
        ("{name: a, type: Slack, url: 'file:///etc/passwd'}", "receivers[0].url"),
        ("{name: a, type: Slack, url: 'https://a.example', steps: [Deleted]}", "receivers[0].steps[0]"),
        ("{name: a, type: Slack, url: 'https://a.example', secret: whsec_a}", "receivers[0].secret"),
        ("{name: A b, type: Slack, url: 'https://a.example'}", "receivers[0].name"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, receiver: str, says: str) -> None:
    path = tmp_path / "notifications.yaml"
    path.write_text(f"receivers:\n- {receiver}\n")
    with pytest.raises(NotificationSettingsError, match=r"notifications\.yaml:\d+: ") as problem:
        read_notifications(path)
    assert says in str(problem.value)


def test_a_url_that_is_a_secret_is_not_said(tmp_path: Path) -> None:
    path = tmp_path / "notifications.yaml"
    path.write_text("receivers:\n- {name: a, type: Slack, url: 'ftp://hooks.example/T0/B0/s3cret'}\n")
    with pytest.raises(NotificationSettingsError) as problem:
        read_notifications(path)
    assert "s3cret" not in str(problem.value)


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("169.254.169.254", True), ("fe80::1%eth0", True), ("fd00:ec2::254", True), ("::ffff:169.254.169.254", True),
        ("0.0.0.0", True), ("224.0.0.1", True), ("10.1.2.3", False), ("127.0.0.1", False), ("2001:db8::1", False),
        ("nonsense", True),
    ],
)  # fmt: skip
def test_addresses_that_are_no_receivers(address: str, refused: bool) -> None:
    assert refused_address(address) is refused


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://a.example/x", ""), ("http://a.example/x", "not https"), ("https://169.254.169.254/", "no receiver"),
        ("https://[fe80::1]/", "no receiver"), ("https:///x", "no host"),
        ("https://a:b:c/", "cannot be read"), ("gopher://a/", "not https"),
    ],
)  # fmt: skip
def test_urls(url: str, says: str) -> None:
    assert (says in url_problem(url, insecure=False)) if says else url_problem(url, insecure=False) == ""


def test_http_only_where_it_is_said() -> None:
    assert url_problem("http://127.0.0.1:9/x", insecure=True) == ""
    assert url_problem("http://169.254.169.254/latest", insecure=True) != ""
