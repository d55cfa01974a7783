"""Which revision of each policy is in force: the newest, if it compiles and its tests pass; else the last that did.

A policy that never was accepted goes into the bundle marked as refused: gateways deny whatever it matches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from ostiary_api.bundle_feed import BundleError, RefusedPolicy, manifest_line, unpack
from ostiary_api.connection import Connection
from ostiary_api.meta import LabelSelector, ObjectMeta
from ostiary_api.names import GATEWAY_LABEL
from ostiary_api.policy import GatewayPolicy, GatewayPolicySpec, Match, Rule
from ostiary_api.secret import Secret
from ostiary_api.secret_uses import secrets_of_policy
from ostiary_operator.observed import Manifest, Observed, SeenPolicy
from ostiary_operator.reconcile.conditions import sentence
from ostiary_policy.bundle import check_policy
from ostiary_policy.masking import MaskCheck
from ostiary_policy.matching import selects
from ostiary_policy.policy import Problem, compile_policy
from ostiary_policy.testing import FactSource


@dataclass(frozen=True, slots=True)
class Extensions:
    """What only the gateway's code knows: facts of tests' requests, by protocol, and whether a mask can be applied."""

    fact_sources: Mapping[str, FactSource]
    check_mask: MaskCheck | None = None
    patience: Callable[[], Callable[[], bool]] | None = None
    """Begins to count the time that the tests of one policy may take; what it gives says whether that is over."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """Policies that bundles of an earlier run have in force, by `namespace/name`, the newest first.

    `problems`: bundles that could not be read.
    """

    policies: Mapping[str, tuple[Remembered, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remembered:
    """A policy of a bundle. `at_home`: the bundle is in the policy's own namespace.

    Who may write ConfigMaps in a namespace may forge bundles there, and must not get at policies of another by it.
    """

    policy: GatewayPolicy
    at_home: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How one policy stands. `bundled`: what goes into bundles; `accepted`: that is the newest revision.

    `refused` says why if no revision ever was accepted; `bundled` is then the newest, or what stands for it. `problems`
    are those of the newest. `inputs`: what all this was worked out from.
    """

    uid: str
    bundled: GatewayPolicy
    line: str
    problems: tuple[Problem, ...]
    refused: RefusedPolicy | None
    not_run: tuple[str, ...]
    inputs: object
    secrets: frozenset[str] = frozenset()
    """The Secrets that it names (`namespace/name`), there or not."""

    @property
    def accepted(self) -> bool:
        """Nothing is wrong with the newest revision: it is in force."""
        return not self.problems

    @property
    def revision(self) -> str:
        """Of the spec in force; empty if none ever was."""
        return "" if self.refused is not None else self.bundled.revision


Standings = Mapping[str, Standing]
"""By `namespace/name` of the policy."""


def recovered(config_maps: Iterable[Manifest]) -> Recovered:
    """What bundles say that was accepted before this run began. Takes ConfigMaps with their whole data; others may be
    among them."""
    gateways: dict[tuple[str, str], dict[str, Mapping[str, str]]] = {}
    for manifest in config_maps:
        meta = manifest["metadata"]
        gateway = (meta.get("labels") or {}).get(GATEWAY_LABEL)
        if gateway:
            gateways.setdefault((meta["namespace"], gateway), {})[meta["name"]] = manifest.get("data") or {}
    found: dict[str, dict[tuple[str, bool], Remembered]] = {}
    problems: list[str] = []
    for (namespace, gateway), maps in sorted(gateways.items()):
        try:
            bundle = unpack(gateway, maps)
        except BundleError as problem:
            problems.append(f"{namespace}/{gateway}: {problem}")
            continue
        refused = {(item.namespace, item.name) for item in bundle.header.refused}
        for policy in bundle.policies:
            if (policy.metadata.namespace, policy.metadata.name) not in refused:
                at_home = policy.metadata.namespace == namespace
                found.setdefault(policy.key, {})[policy.revision, at_home] = Remembered(policy, at_home)
    newest = {
        key: tuple(sorted(each.values(), key=lambda remembered: remembered.policy.metadata.generation, reverse=True))
        for key, each in found.items()
    }
    return Recovered(newest, tuple(problems))


def stale(observed: Observed, standings: Standings, namespace: str = "") -> list[str]:
    """The policies (of a namespace, or all) to be looked at again: they are new, or something that their acceptance
    depends on has changed."""
    return [
        key
        for key, seen in observed.policies.items()
        if not namespace or seen.namespace == namespace
        if (standing := standings.get(key)) is None or standing.inputs != _inputs(observed, seen)
    ]


def as_before(observed: Observed, key: str, before: Recovered) -> Standing | None:
    """How a policy stands that an earlier run accepted as it is now, and that is in force: without compiling it.

    None: it must be looked at. Its `inputs` are those of nothing, so it stays `stale`: it is to be looked at later, for
    what its tests were run with, and Ostiary itself, may have changed meanwhile.
    """
    seen = observed.policies[key]
    if seen.model is None or seen.status.get("revision") != seen.model.revision:
        return None
    if seen.status.get("observedGeneration") != seen.generation or not _says_accepted(seen.status):
        return None
    for remembered in before.policies.get(key, ()):
        policy = remembered.policy
        if policy.metadata.uid == seen.uid and policy.revision == seen.model.revision:
            return _standing(seen, seen.model, (), None, (), None)
    return None


def _says_accepted(status: Manifest) -> bool:
    found = (each for each in status.get("conditions") or () if each.get("type") == "Accepted")
    return any(each.get("status") == "True" for each in found)


def accept(
    observed: Observed, key: str, previous: Standing | None, before: Recovered, extensions: Extensions
) -> Standing:
    """Compile one policy and run its tests: milliseconds, more if it has many tests. Never raises for a bad policy."""
    seen = observed.policies[key]
    inputs = _inputs(observed, seen)
    if seen.model is not None:
        try:
            problems, not_run = _check(observed, seen.model, extensions)
        except Exception as error:  # noqa: BLE001 - a fault in judging a policy must not open what it denies
            text = f"it could not be judged ({type(error).__name__}: {error}); this is a fault of Ostiary"
            problems, not_run = (Problem(seen.namespace, seen.name, "spec", text, "Please report it."),), ()
        if not problems:
            return _standing(seen, seen.model, (), None, not_run, inputs)
    else:
        problems = tuple(Problem(seen.namespace, seen.name, item.field, item.message) for item in seen.problems)
    last = _last_accepted(observed, seen, previous, before, extensions)
    if last is not None:
        return _standing(seen, last, problems, None, (), inputs)
    bundled = seen.model or _stand_in(observed, seen)
    first = problems[0]
    message = f"{sentence(first.message)} {first.hint}" if first.hint else first.message
    refused = RefusedPolicy(seen.namespace, seen.name, first.field, message)
    return _standing(seen, bundled, problems, refused, (), inputs)


def _standing(
    seen: SeenPolicy,
    bundled: GatewayPolicy,
    problems: tuple[Problem, ...],
    refused: RefusedPolicy | None,
    not_run: tuple[str, ...],
    inputs: object,
) -> Standing:
    secrets = frozenset(f"{seen.namespace}/{use.name}" for use in secrets_of_policy(bundled))
    return Standing(seen.uid, bundled, manifest_line(bundled), problems, refused, not_run, inputs, secrets)


def _check(
    observed: Observed, model: GatewayPolicy, extensions: Extensions
) -> tuple[tuple[Problem, ...], tuple[str, ...]]:
    """What is wrong with a policy, and what of its tests could not be run."""
    connections = _at_home(observed, model)
    compiled, problems = check_policy(
        model,
        connections=connections,
        secrets=_secrets(observed, model),
        namespaces=observed.namespaces,
        system_namespace=observed.settings.system_namespace,
        fact_sources=extensions.fact_sources,
        check_mask=extensions.check_mask,
        over=extensions.patience() if extensions.patience is not None else None,
    )
    problems += _masks_without_effect(observed, model, connections)
    not_run: tuple[str, ...] = ()
    if not compiled.tested and not problems:
        missing = sorted(_protocols(model) - set(extensions.fact_sources))
        not_run = tuple(f"nothing here works out the facts of {protocol} requests" for protocol in missing)
    return problems, not_run


def _last_accepted(
    observed: Observed, seen: SeenPolicy, previous: Standing | None, before: Recovered, extensions: Extensions
) -> GatewayPolicy | None:
    """The revision that goes on being in force. One of an earlier object of this name was accepted for that only."""
    if previous is not None and previous.uid == seen.uid:
        return previous.bundled if previous.refused is None else None
    for remembered in before.policies.get(seen.key, ()):
        policy = remembered.policy
        if policy.metadata.uid != seen.uid:
            continue
        if seen.status.get("revision") == policy.revision:
            # Nobody but the operator writes the status: it was accepted. Its tests may depend on a Connection that is
            # no more; they are not asked again.
            secrets = _secrets(observed, policy)
            system = observed.settings.system_namespace
            _, wrong = compile_policy(policy, secrets, system, extensions.check_mask)
        elif remembered.at_home:
            # The operator ended between writing the bundle and the status.
            wrong, _ = _check(observed, policy, extensions)
        else:
            continue
        if not wrong:
            return policy
    return None


def _stand_in(observed: Observed, seen: SeenPolicy) -> GatewayPolicy:
    """For a policy that cannot be read: for what it says it is for, or else for all that it could be for."""
    try:
        match = Match.model_validate(seen.raw_match or {})
    except ValidationError:
        everywhere = seen.namespace == observed.settings.system_namespace
        match = Match(namespace_selector=LabelSelector() if everywhere else None)
    message = f"GatewayPolicy {seen.key} is not valid"
    rule = Rule(name="not-valid", action="Deny", expression="true", message=message[:1024])
    return GatewayPolicy(
        metadata=ObjectMeta(name=seen.name, namespace=seen.namespace, uid=seen.uid, generation=seen.generation),
        spec=GatewayPolicySpec(match=match, rules=(rule,)),
    )


def _secrets(observed: Observed, policy: GatewayPolicy) -> dict[tuple[str, str], Secret]:
    """The Secrets that a policy names and that are there. What is in them is the gateway's: any key will do here."""
    namespace = policy.metadata.namespace
    found: dict[tuple[str, str], dict[str, bytes]] = {}
    for use in secrets_of_policy(policy):
        if f"{namespace}/{use.name}" in observed.secrets:
            found.setdefault((namespace, use.name), {}).update(dict.fromkeys(use.keys, bytes(32)))
    return {
        (space, name): Secret(metadata=ObjectMeta(name=name, namespace=space), data=data)
        for (space, name), data in found.items()
    }


def _at_home(observed: Observed, policy: GatewayPolicy) -> list[Connection]:
    """The Connections of a policy's own namespace, the oldest first.

    Nobody else's, though a policy of the system namespace may be for them: who names or labels a Connection in another
    namespace must not decide whether it is accepted.
    """
    seen = observed.by_namespace.get(policy.metadata.namespace, ())
    return [each.model for each in seen if each.model is not None]


def _is_for_others(observed: Observed, policy: GatewayPolicy) -> bool:
    """Whether it may be for Connections of other namespaces."""
    at_system = policy.metadata.namespace == observed.settings.system_namespace
    return at_system and policy.spec.match.namespace_selector is not None


def _selects(observed: Observed, policy: GatewayPolicy, connection: Connection) -> bool:
    return selects(policy, connection, observed.namespaces, observed.settings.system_namespace)


def _protocols(policy: GatewayPolicy) -> set[str]:
    return {
        "Postgres" if test.sql is not None else "Kubernetes" if test.k8s is not None else "SSH"
        for test in policy.spec.tests
    }


def _inputs(observed: Observed, seen: SeenPolicy) -> object:
    """Everything that acceptance depends on, to be compared."""
    model = seen.model
    if model is None:
        return (seen.uid, seen.generation)
    home = model.metadata.namespace
    secrets = tuple(use.name for use in secrets_of_policy(model) if f"{home}/{use.name}" in observed.secrets)
    return (seen.uid, model.revision, secrets, _tested_with(observed, model))


def _tested_with(observed: Observed, policy: GatewayPolicy) -> tuple[object, ...]:
    """The Connections that tests and checks look at: for each protocol the first, and those that tests name."""
    protocols = _protocols(policy)
    if any(mask.json_path is not None for rule in policy.spec.rules for mask in rule.masking):
        protocols.add("Postgres")
    if not protocols:
        return ()
    named = {test.connection for test in policy.spec.tests if test.connection is not None}
    looked_at: list[object] = []
    for connection in _at_home(observed, policy):
        protocol = connection.spec.protocol
        if connection.metadata.name not in named and protocol not in protocols:
            continue
        chosen = _selects(observed, policy, connection)
        if connection.metadata.name in named or chosen:
            meta = connection.metadata
            looked_at.append((meta.namespace, meta.name, tuple(sorted(meta.labels.items())), protocol, chosen))
        if chosen:
            protocols.discard(protocol)
        if not protocols and not named:
            break
    return tuple(looked_at)


def _masks_without_effect(
    observed: Observed, policy: GatewayPolicy, connections: Iterable[Connection]
) -> tuple[Problem, ...]:
    """Masks by JSON path on a database would hide nothing: better said than found out."""
    masks = [
        (f"spec.rules[{number}].masking[{place}].jsonPath", mask)
        for number, rule in enumerate(policy.spec.rules)
        for place, mask in enumerate(rule.masking)
        if mask.json_path is not None
    ]
    if not masks:
        return ()
    databases = (each for each in connections if each.spec.protocol == "Postgres")
    reached = next((f"{each.key}, a Postgres Connection" for each in databases if _selects(observed, policy, each)), "")
    protocols = policy.spec.match.protocols
    if _is_for_others(observed, policy) and (not protocols or "Postgres" in protocols):
        # Whether there is one is for others to say, and they may change it at any time.
        reached = "Postgres Connections"
    if not reached:
        return ()
    text = (
        f"it would mask nothing on {reached}. Name the column, or a detector, or put it into a policy with "
        "match.protocols: [Kubernetes]"
    )
    meta = policy.metadata
    return tuple(Problem(meta.namespace, meta.name, path, text) for path, _ in masks)
