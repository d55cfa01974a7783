"""What the gateway's code offers to the operator, found by entry points: operator and gateway do not import each other.

Groups: `ostiary.fact_sources` (name: the protocol) works out the facts of requests for policies' tests;
`ostiary.mask_checks` says whether a mask can be applied; `ostiary.protocols` names what gateways serve.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, distributions
from typing import Any, Final

from ostiary_operator.reconcile.acceptance import Extensions
from ostiary_policy.masking import ColumnMask, DetectorMask, JsonPathMask, MaskCheck
from ostiary_policy.testing import FactSource

FACT_SOURCES, MASK_CHECKS, PROTOCOLS = "ostiary.fact_sources", "ostiary.mask_checks", "ostiary.protocols"

TEST_SECONDS: Final = 2.0
"""What the tests of one policy may cost, in seconds of a processor: all policies are judged by one operator."""


class ExtensionError(Exception):
    """Something of the gateway's code is not installed, or cannot be loaded. Policies could not be judged without."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """`extensions` for accepting policies, and which protocols gateways serve."""

    extensions: Extensions
    protocols: frozenset[str]


def load() -> Loaded:
    """Load all of them. Imports the gateway's parsers: takes a second, so do it once, in a thread."""
    # Not entry_points(): of two distributions of one name it hides one, and a checkout may have an old one beside it.
    found = {
        (entry.group, entry.name): entry
        for distribution in distributions()
        for entry in distribution.entry_points
        if entry.group in (FACT_SOURCES, MASK_CHECKS, PROTOCOLS)
    }

    def of(group: str) -> list[EntryPoint]:
        return [entry for key, entry in sorted(found.items()) if key[0] == group]

    return load_from(of(FACT_SOURCES), of(MASK_CHECKS), of(PROTOCOLS))


def load_from(
    fact_sources: Iterable[EntryPoint], mask_checks: Iterable[EntryPoint], protocols: Iterable[EntryPoint]
) -> Loaded:
    """The same from given entry points. Raises ExtensionError."""
    sources: dict[str, FactSource] = {entry.name: _load(entry) for entry in fact_sources}
    checks: list[MaskCheck] = [_load(entry) for entry in mask_checks]
    served = frozenset(entry.name for entry in protocols)
    for group, found in ((FACT_SOURCES, sources), (MASK_CHECKS, checks), (PROTOCOLS, served)):
        if not found:
            raise ExtensionError(
                f"no entry point of group {group} is installed, so no policy could be judged; "
                "install the whole distribution: pip install 'ostiary[operator]'"
            )
    return Loaded(Extensions(sources, _all(checks), patience), served)


def patience() -> Callable[[], bool]:
    """From now on counts the time of this thread, so that nothing is refused because the machine is busy."""
    end = time.thread_time() + TEST_SECONDS
    return lambda: time.thread_time() >= end


def _load(entry: EntryPoint) -> Any:
    try:
        loaded = entry.load()
    except Exception as error:
        raise ExtensionError(f"{entry.group}: {entry.name} ({entry.value}) cannot be loaded: {error}") from error
    if not callable(loaded):
        raise ExtensionError(f"{entry.group}: {entry.name} ({entry.value}) is no function")
    return loaded


def _all(checks: Iterable[MaskCheck]) -> MaskCheck:
    every = tuple(checks)

    def check(mask: ColumnMask | JsonPathMask | DetectorMask) -> tuple[str, str] | None:
        return next((wrong for each in every if (wrong := each(mask)) is not None), None)

    return check
