"""A bundle: the Connections and policies that one gateway serves, compiled, with a revision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from ostiary_api.canonical import revision
from ostiary_api.connection import Connection
from ostiary_api.policy import GatewayPolicy
from ostiary_policy.facts import ClientFacts, ConnectionFacts, SubjectFacts
from ostiary_policy.masking import MaskCheck
from ostiary_policy.matching import connection_facts, matches_subject, selects
from ostiary_policy.policy import CompiledPolicy, Problem, Secrets, broken_policy, compile_policy, keys_digest
from ostiary_policy.policy_set import PolicySet
from ostiary_policy.testing import FactSource, run_tests

SYSTEM_NAMESPACE = "ostiary-system"

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class BoundConnection:
    """A Connection and the policies for it."""

    connection: Connection
    policies: tuple[CompiledPolicy, ...]
    revision: str
    """Of the bundle."""
    _sets: dict[tuple[int, ...], PolicySet] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By which of the policies are in it: subjects for whom the same policies hold share one."""

    @property
    def facts(self) -> ConnectionFacts:
        """`request.connection`."""
        return connection_facts(self.connection)

    def for_subject(self, subject: SubjectFacts, client: ClientFacts) -> PolicySet:
        """The policies for one who asks. The same for a whole session; keep it.

        `client` does not choose policies: an address may be claimed, and the application's name always is.
        """
        del client
        chosen = tuple(at for at, policy in enumerate(self.policies) if matches_subject(policy.model, subject))
        found = self._sets.get(chosen)
        if found is None:
            found = self._sets[chosen] = PolicySet((self.policies[at] for at in chosen), self.facts, self.revision)
        return found


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a gateway serves. `policies`: what is in force of each policy; `problems`: what is wrong with the new."""

    connections: Mapping[Key, BoundConnection]
    policies: Mapping[Key, CompiledPolicy]
    problems: tuple[Problem, ...]
    revision: str
    """sha256 over everything that decisions depend on, hex."""

    def connection(self, namespace: str, name: str) -> BoundConnection | None:
        """A Connection, if there is such a one."""
        return self.connections.get((namespace, name))


def compile_bundle(
    connections: Iterable[Connection],
    policies: Iterable[GatewayPolicy],
    *,
    secrets: Secrets,
    namespaces: Mapping[str, Mapping[str, str]],
    system_namespace: str = SYSTEM_NAMESPACE,
    previous: Bundle | None = None,
    fact_sources: Mapping[str, FactSource] | None = None,
    require_tests: bool = False,
    now: datetime | None = None,
    check_mask: MaskCheck | None = None,
    refused: Mapping[Key, Sequence[Problem]] | None = None,
    reuse: bool = False,
) -> Bundle:
    """Compile all policies and bind them to the Connections. Never raises for a bad policy: see `Bundle.problems`.

    A policy whose new revision is not accepted keeps the revision that `previous` has in force; one that never was
    accepted denies whatever it matches. `fact_sources` works out the facts for the policies' own tests, by
    protocol; tests without a source are not run, which is a problem only with `require_tests`. `now` is when tests
    without a time happen. `check_mask`: whether whoever applies the masks can. `refused`: policies that somebody else
    has tested and that never were accepted, and why. `reuse`: what is in force in `previous` and did not change is
    taken from there as it is, and its tests are not run again.
    """
    all_connections = tuple(connections)
    compiler = _Acceptance(all_connections, secrets, namespaces, system_namespace, previous)
    compiler.fact_sources = fact_sources or {}
    compiler.require_tests = require_tests
    compiler.now = now
    compiler.check_mask = check_mask
    compiler.reuse = reuse
    in_force: dict[Key, CompiledPolicy] = {}
    for model in policies:
        key = (model.metadata.namespace, model.metadata.name)
        if key in in_force:
            text = "there are two policies of this name in this namespace"
            problem = Problem(*key, "metadata.name", text, "Rename one.")
            compiler.problems.append(problem)
            in_force[key] = broken_policy(in_force[key], (problem,))
        elif refused and (known := refused.get(key)):
            compiler.problems.extend(known)
            compiled, _ = compile_policy(model, secrets, system_namespace, check_mask)
            in_force[key] = broken_policy(compiled, tuple(known))
        else:
            in_force[key] = compiler.accept(model)
    digest = _revision(all_connections, in_force.values(), namespaces, system_namespace)
    bound = {}
    for connection in all_connections:
        chosen = tuple(p for p in in_force.values() if selects(p.model, connection, namespaces, system_namespace))
        bound[connection.metadata.namespace, connection.metadata.name] = BoundConnection(connection, chosen, digest)
    return Bundle(bound, in_force, tuple(compiler.problems), digest)


def check_policy(
    model: GatewayPolicy,
    *,
    connections: Sequence[Connection],
    secrets: Secrets,
    namespaces: Mapping[str, Mapping[str, str]],
    system_namespace: str,
    fact_sources: Mapping[str, FactSource],
    require_tests: bool = False,
    now: datetime | None = None,
    check_mask: MaskCheck | None = None,
    over: Callable[[], bool] | None = None,
) -> tuple[CompiledPolicy, tuple[Problem, ...]]:
    """Compile one policy and run its tests. The second value says why it is not accepted; empty if it is. `over`:
    whether the time for its tests is over."""
    compiled, found = compile_policy(model, secrets, system_namespace, check_mask)
    if found:
        return compiled, found
    results = run_tests(
        compiled,
        connections=connections,
        namespaces=namespaces,
        system_namespace=system_namespace,
        fact_sources=fact_sources,
        now=now,
        over=over,
    )
    problems = []
    for number, result in enumerate(results):
        if result.passed is False or (result.passed is None and require_tests):
            what = "failed" if result.passed is False else "could not be run"
            text = f"test {result.test!r} {what}: {result.reason.rstrip('.')}"
            problems.append(Problem(*compiled.key, f"spec.tests[{number}]", text))
    return replace(compiled, tested=all(result.passed is not None for result in results)), tuple(problems)


class _Acceptance:
    """Decides for each policy which revision is in force."""

    fact_sources: Mapping[str, FactSource]
    require_tests: bool
    now: datetime | None
    check_mask: MaskCheck | None
    reuse: bool

    def __init__(
        self,
        connections: Sequence[Connection],
        secrets: Secrets,
        namespaces: Mapping[str, Mapping[str, str]],
        system_namespace: str,
        previous: Bundle | None,
    ) -> None:
        self.connections = connections
        self.secrets = secrets
        self.namespaces = namespaces
        self.system_namespace = system_namespace
        self.previous: Mapping[Key, CompiledPolicy] = previous.policies if previous is not None else {}
        self.problems: list[Problem] = []

    def accept(self, model: GatewayPolicy) -> CompiledPolicy:
        if self.reuse and (same := self._same(model)) is not None:
            return same
        compiled, problems = check_policy(
            model,
            connections=self.connections,
            secrets=self.secrets,
            namespaces=self.namespaces,
            system_namespace=self.system_namespace,
            fact_sources=self.fact_sources,
            require_tests=self.require_tests,
            now=self.now,
            check_mask=self.check_mask,
        )
        if not problems:
            return compiled
        self.problems.extend(problems)
        last = self.previous.get(compiled.key)
        if last is not None and not last.problems:
            return last
        return broken_policy(compiled, problems)

    def _same(self, model: GatewayPolicy) -> CompiledPolicy | None:
        """What is in force, if it is this revision with the same keys."""
        last = self.previous.get((model.metadata.namespace, model.metadata.name))
        if last is None or last.problems or last.revision != model.revision:
            return None
        if last.secrets_digest != keys_digest(model, self.secrets):
            return None
        return last if last.model is model else replace(last, model=model)


def _revision(
    connections: Sequence[Connection],
    policies: Iterable[CompiledPolicy],
    namespaces: Mapping[str, Mapping[str, str]],
    system_namespace: str,
) -> str:
    described: dict[str, object] = {
        "systemNamespace": system_namespace,
        "namespaces": {name: dict(labels) for name, labels in namespaces.items()},
        "connections": {c.key: {"labels": dict(c.metadata.labels), "revision": c.revision} for c in connections},
        "policies": {
            p.name: {
                "revision": p.revision,
                "secrets": p.secrets_digest,
                "problems": [str(problem) for problem in p.problems],
            }
            for p in policies
        },
    }
    return revision(described)
