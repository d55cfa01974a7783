"""Who works out the facts for the tests that policies carry, by protocol. No target is asked."""

from __future__ import annotations

from collections.abc import Mapping

from ostiary_policy.testing import FactSource


def fact_sources() -> Mapping[str, FactSource]:
    """Protocol → fact source. A protocol that is not here cannot be tested."""
    return {}
