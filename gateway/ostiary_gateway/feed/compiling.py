"""From a bundle of the operator and its Secrets to what a gateway serves. No I/O; takes processor time, so in a thread.

The operator has checked and tested what is in it. So nothing is tested again, policies that did not change are not
compiled again, and what is wrong with one Connection closes that one only.
"""

from __future__ import annotations

from collections.abc import Mapping

from ostiary_api.bundle_feed import FeedBundle
from ostiary_api.connection import Connection
from ostiary_api.manifests import NAME_LABEL, Manifests
from ostiary_api.problems import Location, Problem
from ostiary_api.secret import Secret
from ostiary_api.secret_uses import secrets_of_connection
from ostiary_gateway.feed.loading import Loaded, locate
from ostiary_gateway.feed.ssh_secrets import unusable_keys
from ostiary_gateway.masking.detectors import problem_of
from ostiary_policy import policy as policies
from ostiary_policy import second_parser
from ostiary_policy.bundle import Bundle, compile_bundle

Key = tuple[str, str]


def empty() -> Loaded:
    """What a gateway serves that has no bundle yet: nothing."""
    return Loaded(compile_bundle((), (), secrets={}, namespaces={}), Manifests())


def compile_feed(
    feed: FeedBundle,
    secrets: Mapping[Key, Secret],
    missing: Mapping[Key, str],
    previous: Bundle | None,
    *,
    reuse: bool = True,
) -> Loaded:
    """`missing`: Secrets that could not be had, and why. `previous`: what is served now; with `reuse`, what did not
    change is taken from there as it is."""
    header = feed.header
    manifests = Manifests(
        connections={each.key: each for each in feed.connections},
        policies={each.key: each for each in feed.policies},
        secrets={each.key: each for each in secrets.values()},
        namespaces={name: dict(labels) for name, labels in header.namespaces.items()},
    )
    spaces = {item.metadata.namespace for item in (*feed.connections, *feed.policies)} | set(header.namespaces)
    refused: dict[Key, list[policies.Problem]] = {}
    for each in header.refused:
        problem = policies.Problem(each.namespace, each.name, each.field, each.message)
        refused.setdefault((each.namespace, each.name), []).append(problem)
    # The second parser was asked by the operator; here it would take memory or another process.
    with second_parser.asked_by(lambda _: None):
        bundle = compile_bundle(
            feed.connections,
            feed.policies,
            secrets=secrets,
            namespaces={name: dict(header.namespaces.get(name, {})) | {NAME_LABEL: name} for name in sorted(spaces)},
            system_namespace=header.system_namespace,
            previous=previous,
            check_mask=problem_of,
            refused=refused,
            reuse=reuse,
        )
    found = [locate(manifests, problem) for problem in bundle.problems]
    closed: dict[Key, str] = {}
    for connection in feed.connections:
        wrong = _wrong(manifests, connection, secrets, missing)
        found += wrong
        if wrong:
            key = connection.metadata.namespace, connection.metadata.name
            closed[key] = f"This Connection is not ready: {wrong[0].message}."
    found += _others(feed, secrets, missing)
    reason = "" if header.approvals_usable else header.approvals_reason or "the operator says that they cannot be used"
    return Loaded(bundle, manifests, tuple(found), (), feed.revision, closed, reason)


def _wrong(
    manifests: Manifests, connection: Connection, secrets: Mapping[Key, Secret], missing: Mapping[Key, str]
) -> list[Problem]:
    """What is not as it must be in the Secrets that a Connection names."""
    found: list[Problem] = []
    for use in secrets_of_connection(connection):
        key = connection.metadata.namespace, use.name
        secret = secrets.get(key)
        if secret is None:
            reason = missing.get(key, "it does not exist")
            found.append(manifests.problem(connection, use.field, f"Secret {use.name} cannot be had: {reason}"))
        elif lacking := use.lacking(secret.data):
            found.append(manifests.problem(connection, use.field, f"Secret {use.name} has no {lacking}"))
    namespace = connection.metadata.namespace
    unusable = unusable_keys(connection, lambda name: secrets.get((namespace, name)))
    return [*found, *(manifests.problem(connection, field, text) for field, text in unusable)]


def _others(feed: FeedBundle, secrets: Mapping[Key, Secret], missing: Mapping[Key, str]) -> list[Problem]:
    """Secrets of which an older version is used, and those that no Connection names: agents' tokens, keys of masks."""
    named = {(c.metadata.namespace, use.name) for c in feed.connections for use in secrets_of_connection(c)}
    found: list[Problem] = []
    for key, reason in missing.items():
        if key in secrets:
            text = f"the new version cannot be had: {reason}; the one before it is used"
        elif key not in named:
            text = f"cannot be had: {reason}; if it is a token, its agent cannot log in"
        else:
            continue
        found.append(Problem(Location("bundle"), text, "Secret", *key))
    return found
