"""The manifests of a candidate: its policies in place of those of the same name in force, the Connections of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ostiary_api.manifests import Manifests, parse_files
from ostiary_gateway.feed import files
from ostiary_gateway.feed.loading import Loaded, Rejected, locate, tuple_key
from ostiary_gateway.masking.detectors import problem_of
from ostiary_policy.bundle import compile_bundle


def read_candidate(paths: Sequence[Path], base: Sequence[Path]) -> Loaded | Rejected:
    """Policies are those in `paths` and no others; Connections, Secrets and namespaces also those of `base`."""
    tried, now = files.read(paths), files.read(base)
    if tried.problems or now.problems:
        return Rejected((*tried.problems, *now.problems))
    return compile_candidate(tried.texts, now.texts)


def compile_candidate(tried: Mapping[str, str], base: Mapping[str, str]) -> Loaded | Rejected:
    """The same for texts (name → text): manifests that somebody pasted."""
    candidate, now = parse_files(tried), parse_files(base)
    if candidate.problems or now.problems:
        return Rejected((*candidate.problems, *now.problems))
    connections = {**now.connections, **candidate.connections}
    secrets = {**now.secrets, **candidate.secrets}
    bundle = compile_bundle(
        connections.values(),
        candidate.policies.values(),
        secrets={tuple_key(key): secret for key, secret in secrets.items()},
        namespaces=_namespaces(candidate, now),
        check_mask=problem_of,
    )
    return Loaded(bundle, candidate, tuple(locate(candidate, problem) for problem in bundle.problems))


def _namespaces(candidate: Manifests, base: Manifests) -> dict[str, dict[str, str]]:
    names = {
        item.metadata.namespace
        for manifests in (base, candidate)
        for item in (*manifests.connections.values(), *manifests.policies.values())
    }
    names |= {*base.namespaces, *candidate.namespaces}
    return {
        name: {**base.namespace_labels(name), **candidate.namespace_labels(name)} for name in sorted(names)
    }
