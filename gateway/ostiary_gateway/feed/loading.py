"""From files to a compiled bundle, with every problem at its file and line. Serve, lint and test all load like this."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ostiary_api.manifests import Manifests, parse_files
from ostiary_api.problems import Problem
from ostiary_api.secret import Secret
from ostiary_gateway.feed import files
from ostiary_gateway.feed.references import check_completeness, check_masks, check_references, notices
from ostiary_gateway.masking.detectors import problem_of
from ostiary_policy import policy as policies
from ostiary_policy.bundle import Bundle, compile_bundle
from ostiary_policy.testing import FactSource


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bundle that may be served. `problems` are of policies that are not accepted: each keeps its last accepted
    revision, and denies what it matches if there was none."""

    bundle: Bundle
    manifests: Manifests
    problems: tuple[Problem, ...] = ()
    notices: tuple[Problem, ...] = ()
    revision: str = ""
    """That of the feed, where it has one; else it is the bundle's own that counts."""
    closed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Connections at which nobody can log in just now, and why."""
    approvals: str = ""
    """Why approvals cannot be used; empty: they can."""

    @property
    def secrets(self) -> dict[tuple[str, str], Secret]:
        """By namespace and name."""
        return {tuple_key(key): secret for key, secret in self.manifests.secrets.items()}


@dataclass(frozen=True, slots=True)
class Rejected:
    """Manifests that may not be served, and why: a policy may be missing in what could be read."""

    problems: tuple[Problem, ...]


class Feed(Protocol):
    """Where bundles come from. One task may use it, between `start` and `close`."""

    async def start(self) -> None:
        """Begins to look."""

    async def close(self) -> None:
        """Ends it. May be called again."""

    async def load(self) -> Loaded | Rejected:
        """The first bundle, at once."""

    def changes(self) -> AsyncGenerator[Loaded | Rejected, None]:
        """Every change since, as a new bundle or as why there is none. Does not end by itself."""

    @property
    def trouble(self) -> str:
        """Why changes may not be seen just now; empty: they are."""


def load(
    paths: Sequence[Path],
    *,
    complete: bool = True,
    previous: Bundle | None = None,
    fact_sources: Mapping[str, FactSource] | None = None,
    in_cluster: bool = False,
) -> Loaded | Rejected:
    """Read, parse, check and compile.

    complete: all that serving needs must be there; without it, what is missing is only noted. `previous` keeps the
    accepted revisions; `fact_sources` runs embedded tests. `in_cluster`: they are for a cluster, where each gateway has
    its own ports, and ServiceAccounts log in.
    """
    read = files.read(paths)
    return compile_texts(
        read.texts, read.problems,
        complete=complete, previous=previous, fact_sources=fact_sources, in_cluster=in_cluster,
    )  # fmt: skip


def compile_texts(
    texts: Mapping[str, str],
    unread: Sequence[Problem] = (),
    *,
    complete: bool = True,
    previous: Bundle | None = None,
    fact_sources: Mapping[str, FactSource] | None = None,
    in_cluster: bool = False,
) -> Loaded | Rejected:
    """The same for texts that were read already (name → text). `unread` is what could not be."""
    manifests = parse_files(texts)
    namespaces = _namespaces(manifests)
    references = check_references(manifests, in_cluster=in_cluster)
    fatal = [*unread, *manifests.problems, *references, *check_masks(manifests, namespaces)]
    missing = check_completeness(manifests, in_cluster=in_cluster)
    if complete and not fatal:
        fatal, missing = missing, []
    bundle = compile_bundle(
        manifests.connections.values(),
        manifests.policies.values(),
        secrets={tuple_key(key): secret for key, secret in manifests.secrets.items()},
        namespaces=namespaces,
        previous=previous,
        fact_sources=fact_sources,
        check_mask=problem_of,
    )
    found = tuple(locate(manifests, problem) for problem in bundle.problems)
    if fatal:
        return Rejected(tuple(fatal) + found)
    # In a cluster a directory has more than what is for gateways.
    foreign = () if in_cluster else manifests.notices
    noted = (*foreign, *missing, *notices(manifests, bundle, in_cluster=in_cluster))
    return Loaded(bundle, manifests, found, noted)


def locate(manifests: Manifests, problem: policies.Problem) -> Problem:
    """A policy's problem at its place in the file."""
    item = manifests.policies[f"{problem.namespace}/{problem.policy}"]
    text = f"{problem.message}. {problem.hint}" if problem.hint else problem.message
    return manifests.problem(item, problem.field, text, max(problem.line, 1), max(problem.column, 1))


def tuple_key(key: str) -> tuple[str, str]:
    """`namespace/name` as a pair."""
    namespace, _, name = key.partition("/")
    return namespace, name


def _namespaces(manifests: Manifests) -> dict[str, dict[str, str]]:
    objects = (*manifests.connections.values(), *manifests.policies.values())
    names = {item.metadata.namespace for item in objects} | set(manifests.namespaces)
    return {name: manifests.namespace_labels(name) for name in sorted(names)}
