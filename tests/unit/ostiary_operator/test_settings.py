"""The operator's settings: what is taken, and how what is wrong is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostiary_operator.settings import SettingsError, parse_settings, read_pod, read_settings

GATEWAY = "gateway: {image: gateway:1}\n"


def test_what_the_chart_writes_is_taken() -> None:
    settings = parse_settings(
        GATEWAY + "watchNamespaces: [shop, bank]\nresyncPeriod: 5m\nlog: {level: debug, format: json}\n"
        "leaderElection: {enabled: true, leaseName: op, leaseDuration: 30s, renewDeadline: 20s, retryPeriod: 5s}\n"
    )
    assert settings.watch_namespaces == ("shop", "bank")
    assert settings.resync_period == 300.0
    assert settings.leader_election.lease_duration == 30.0
    assert settings.namespaces_with("ostiary-system") == ("bank", "ostiary-system", "shop")


def test_closed_approvals_are_kept_as_long_as_is_said() -> None:
    settings = parse_settings(GATEWAY + "approvals: {keepClosed: 24h, keepPerConnection: 10}\n")
    assert (settings.approvals.keep_closed, settings.approvals.keep_per_connection) == (86400.0, 10)
    assert parse_settings(GATEWAY).approvals.keep_closed == 7 * 86400.0


def test_the_defaults_need_an_image_only() -> None:
    settings = parse_settings("", image="gateway:2")
    assert settings.gateway.image == "gateway:2"
    assert settings.namespaces_with("ostiary-system") == ("",)
    assert parse_settings(GATEWAY, image="gateway:2").gateway.image == "gateway:1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "op.yaml:1: gateway: is required"),
        (GATEWAY + "resyncPeriode: 5m", "op.yaml:2: resyncPeriode: is not a field here; did you mean resyncPeriod?"),
        (GATEWAY + "resyncPeriod: 5", "op.yaml:2: resyncPeriod: not a duration; write it like 30s"),
        (GATEWAY + "log:\n  level: loud", "op.yaml:3: log.level: 'loud' is not allowed; must be"),
        (GATEWAY + "leaderElection: {renewDeadline: 20s}", "leaseDuration must be longer than renewDeadline"),
        (GATEWAY + "watchNamespaces: [Shop]", "op.yaml:2: watchNamespaces[0]: must match"),
        (GATEWAY + "---\n" + GATEWAY, "holds 2 documents"),
        ("a: [", "not YAML: did not find"),
        ("- a", "the document: must be an object"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, says: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_settings(text, "op.yaml")
    assert says in str(error.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_settings(tmp_path / "none.yaml")


def test_who_a_replica_is() -> None:
    pod = read_pod({"POD_NAME": "operator-1", "POD_NAMESPACE": "guards"}, "host", 7)
    assert (pod.name, pod.namespace) == ("operator-1", "guards")
    pod = read_pod({}, "host", 7)
    assert (pod.name, pod.namespace) == ("host-7", "ostiary-system")
    with pytest.raises(SettingsError, match="POD_NAMESPACE"):
        read_pod({"POD_NAMESPACE": "Not A Name"}, "host", 7)
