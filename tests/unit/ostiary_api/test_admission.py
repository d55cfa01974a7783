"""The admission policies: nothing in them is left to a default, and the chart has them as they are here."""

from __future__ import annotations

from typing import Any

import yaml

from ostiary_api.admission import BUNDLES, NAMES, manifests
from ostiary_api.generate import admission_template

OPERATOR = "system:serviceaccount:ostiary-system:ostiary-operator"


def policies() -> list[dict[str, Any]]:
    return [each for each in manifests(OPERATOR) if each["kind"] == "ValidatingAdmissionPolicy"]


def test_each_policy_is_bound_to_all_that_it_matches_and_denies() -> None:
    bindings = [each for each in manifests(OPERATOR) if each["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert [each["metadata"]["name"] for each in bindings] == list(NAMES)
    for each in bindings:
        assert each["spec"] == {"policyName": each["metadata"]["name"], "validationActions": ["Deny"]}


def test_a_policy_that_cannot_be_evaluated_denies() -> None:
    assert {each["spec"]["failurePolicy"] for each in policies()} == {"Fail"}
    for each in policies():
        assert "matchConditions" not in each["spec"]
        assert each["spec"]["matchConstraints"]["namespaceSelector"] == {}
    selectors = {each["metadata"]["name"]: each["spec"]["matchConstraints"]["objectSelector"] for each in policies()}
    assert selectors.pop(BUNDLES) == {"matchLabels": {"app.kubernetes.io/managed-by": "ostiary-operator"}}
    assert all(selector == {} for selector in selectors.values())


def test_every_write_is_covered() -> None:
    covered = [
        (operation, resource)
        for each in policies()
        for rule in each["spec"]["matchConstraints"]["resourceRules"]
        for operation in rule["operations"]
        for resource in rule["resources"]
    ]
    assert sorted(covered) == [
        ("CREATE", "approvalrequests"),
        ("CREATE", "configmaps"),
        ("CREATE", "connections"),
        ("DELETE", "approvalrequests"),
        ("DELETE", "configmaps"),
        ("UPDATE", "approvalrequests"),
        ("UPDATE", "approvalrequests/status"),
        ("UPDATE", "configmaps"),
        ("UPDATE", "connections"),
    ]


def test_every_refusal_says_why() -> None:
    for each in policies():
        for rule in each["spec"]["validations"]:
            assert rule["reason"] == "Forbidden"
            assert rule["message"]
            # kubectl shows the first line only.
            assert "\n" not in rule["message"] + rule.get("messageExpression", "")


def test_the_chart_has_them_for_its_own_operator() -> None:
    rendered = admission_template().replace('{{ include "ostiary.operator.username" . }}', OPERATOR)
    assert "{{" not in rendered
    assert list(yaml.safe_load_all(rendered)) == manifests(OPERATOR)
