"""Who works out the facts for the tests that policies carry, by protocol. No target is asked."""

from __future__ import annotations

from collections.abc import Mapping

from ostiary_api.cases import PolicyTest
from ostiary_policy.facts import ConnectionFacts
from ostiary_policy.testing import FactSource

DATABASE = "postgres"
"""What a test is in that does not say."""
USER = "app"
"""The role at the target: what the gateway logs in as, which no test knows."""


def fact_sources() -> Mapping[str, FactSource]:
    """Protocol → fact source. A protocol that is not here cannot be tested yet."""
    return {"Kubernetes": kubernetes, "Postgres": postgres, "SSH": ssh}


def kubernetes(test: PolicyTest, connection: ConnectionFacts) -> Mapping[str, object]:
    """The facts of a test's API request, without an API server. An entry point: the operator finds it by its name."""
    from ostiary_gateway.protocols.kubernetes.offline import offline_facts

    if test.k8s is None:
        raise ValueError("it has no k8s")
    return dict(offline_facts(test.k8s))


def postgres(test: PolicyTest, connection: ConnectionFacts) -> Mapping[str, object]:
    """The facts of a test's SQL, without a database. An entry point: the operator finds it by its name."""
    from ostiary_gateway.protocols.postgres.offline import sql_facts

    facts = sql_facts(test.sql or "", database=test.database or DATABASE, user=USER, params=test.params)
    return dict(facts)


def ssh(test: PolicyTest, connection: ConnectionFacts) -> Mapping[str, object]:
    """The facts of a test's request over SSH, without a target. An entry point: the operator finds it by its name."""
    from ostiary_gateway.protocols.ssh.offline import offline_facts

    if test.ssh is None:
        raise ValueError("it has no ssh")
    return dict(offline_facts(test.ssh))
