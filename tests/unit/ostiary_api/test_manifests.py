"""Manifests: what is read, what is refused, and where the finger points."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.resources import SCALARS

from ostiary_api.manifests import Manifests, parse, parse_files

CONNECTION = """\
apiVersion: ostiary.dev/v1alpha1
kind: Connection
metadata: {name: db}
spec:
  protocol: Postgres
  upstream: {host: db}
  credentials: {static: {secretRef: {name: db}}}
  listener: {port: 5432}
"""


def read(text: str) -> Manifests:
    return parse(textwrap.dedent(text), "f.yaml")


def problems(text: str) -> list[str]:
    return [str(problem) for problem in read(text).problems]


def notices(text: str) -> list[str]:
    return [str(notice) for notice in read(text).notices]


def test_documents_of_all_kinds_are_read() -> None:
    found = read(
        """
        # a comment, and an empty document
        ---
        ---
        apiVersion: v1
        kind: Secret
        metadata: {name: db, namespace: prod}
        stringData: {username: app}
        data: {password: c2VjcmV0}
        ---
        apiVersion: v1
        kind: Namespace
        metadata: {name: prod, labels: {env: prod}}
        """
    )
    assert found.ok
    secret = found.secret("prod", "db")
    assert secret is not None
    assert (secret.text("username"), secret.text("password")) == ("app", "secret")
    assert found.namespace_labels("prod") == {"env": "prod", "kubernetes.io/metadata.name": "prod"}
    assert found.namespace_labels("other") == {"kubernetes.io/metadata.name": "other"}


def test_an_object_without_a_namespace_is_in_the_default_one() -> None:
    assert [*parse(CONNECTION).connections] == ["default/db"]
    assert [*parse(CONNECTION, default_namespace="team").connections] == ["team/db"]


def test_lists_are_taken_as_their_items() -> None:
    items = textwrap.indent(textwrap.indent(CONNECTION, "  "), "  ")
    found = read(f"apiVersion: v1\nkind: List\nitems:\n  - {items.lstrip()}")
    assert found.ok
    assert [*found.connections] == ["default/db"]


def test_json_is_yaml() -> None:
    found = parse('{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"k": "dg=="}}')
    assert found.secrets["default/a"].data == {"k": b"v"}


def test_other_kinds_are_passed_over_with_a_notice() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {anything: 1}\n"
    assert problems(text) == []
    assert notices(text) == ["f.yaml:1: ConfigMap a: v1 ConfigMap is of no use to a gateway and is ignored"]


def test_an_unknown_kind_of_ours_is_an_error() -> None:
    assert problems("apiVersion: ostiary.dev/v1alpha1\nkind: GatewayPolcy\nmetadata: {name: a}\n") == [
        "f.yaml:2: GatewayPolcy a: kind: there is no GatewayPolcy in ostiary.dev; "
        "there are Connection, GatewayPolicy, ApprovalRequest; did you mean GatewayPolicy?"
    ]


@pytest.mark.parametrize(
    "version", ["ostiary.dev/v1", "ostiary.dev", "ostiary.io/v1alpha1", "ostiary.dev/v1alpha1 "], ids=repr
)
def test_a_resource_of_ours_under_another_version_is_an_error(version: str) -> None:
    # Passing it over would mean that a policy which denies is not there.
    [problem] = problems(CONNECTION.replace("ostiary.dev/v1alpha1", f'"{version}"'))
    assert problem == (
        f"f.yaml:1: Connection db: apiVersion: {version} is not known; a Connection has ostiary.dev/v1alpha1"
    )


def test_a_typing_error_is_pointed_at_with_what_was_meant() -> None:
    assert problems(CONNECTION.replace("upstream:", "upsteam:")) == [
        "f.yaml:6: Connection default/db: spec.upsteam: is not a field here; did you mean upstream?",
    ]


def test_each_problem_of_an_object_is_told() -> None:
    text = (
        CONNECTION.replace("Postgres", "postgres")
        .replace("5432", "no")
        .replace("name: db}\n", "name: db, labels: {a: 1}}\n", 1)
    )
    assert problems(text) == [
        "f.yaml:3: Connection default/db: metadata.labels.a: must be text, not a number; put it in quotes",
        "f.yaml:5: Connection default/db: spec.protocol: 'postgres' is not allowed; "
        "must be Postgres, Kubernetes or SSH; did you mean Postgres?",
        "f.yaml:8: Connection default/db: spec.listener.port: must be a whole number, not true or false",
    ]


def test_a_bad_object_does_not_hide_the_others() -> None:
    found = read(CONNECTION.replace("5432", "0") + "---\n" + CONNECTION.replace("name: db}\nspec", "name: good}\nspec"))
    assert [*found.connections] == ["default/good"]
    assert [str(problem.location) for problem in found.problems] == ["f.yaml:8"]


def test_the_same_object_twice_is_an_error_across_files_too() -> None:
    found = parse_files({"a.yaml": CONNECTION, "b.yaml": "---\n" + CONNECTION})
    assert [str(problem) for problem in found.problems] == [
        "b.yaml:2: Connection default/db: this object is there twice; the first stands at a.yaml:1"
    ]


def test_the_same_key_twice_is_an_error() -> None:
    assert problems(CONNECTION + "  audit: Strict\n  audit: Relaxed\n") == [
        "f.yaml:10: the key 'audit' is there twice; it stands in line 9 already"
    ]


def test_text_that_is_not_yaml_is_pointed_at() -> None:
    assert problems("a: b\nc: [1, 2\nd: e\n")[0].startswith("f.yaml:3: not YAML: ")


@pytest.mark.parametrize("text", ["just text", "- 1\n- 2", "5", "kind: Connection", "apiVersion: v1"])
def test_what_is_no_object_is_an_error(text: str) -> None:
    assert len(problems(text)) == 1


@pytest.mark.parametrize(("written", "read_as"), SCALARS)
def test_scalars_are_read_as_kubectl_reads_them(written: str, read_as: object) -> None:
    found = read(
        f"""
        apiVersion: ostiary.dev/v1alpha1
        kind: GatewayPolicy
        metadata: {{name: a}}
        spec:
          rules: [{{name: a, action: Audit}}]
          tests: [{{name: a, ssh: {{}}, expect: Deny, as: {{claims: {{value: {written}}}}}}}]
        """
    )
    assert found.ok
    value = found.policies["default/a"].spec.tests[0].as_.claims["value"]
    assert value == read_as
    assert isinstance(value, bool) == isinstance(read_as, bool)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: .nan", "infinity and NaN"),
        ("a: 99999999999999999999999999", "more than 64 bits"),
        ("a: 1e999", "too large"),
        ("a: !!python/object:os.system x", "tag"),
        ("a: !secret x", "tag"),
        ("a: !!int x", "not of the type"),
        ("a: *b", "alias"),
        ("a: &b [*b]", "inside of what it stands for"),
        ("? [a]\n: b", "a key must be plain text"),
        ("a: " + "[" * 100 + "]" * 100, "nested deeper"),
        ('a: "\\ud800"', "not YAML"),
        ("a: \x00", "characters that YAML does not allow"),
        ("a:\n\t- b", "not YAML"),
        ("a: " + "x" * (16 * 2**20), "larger than 16 MiB"),
    ],
)
def test_yaml_that_is_no_json_is_refused(text: str, says: str) -> None:
    [problem] = problems(text)
    assert says in problem


def test_aliases_cannot_blow_up_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    text = CONNECTION + "\n".join("  " + line for line in lines) + "\n"
    assert problems(text) == ["f.yaml:9: too many values; aliases (*) blow it up"]


def test_lists_of_lists_cannot_blow_up_time() -> None:
    lines = ["a0: &a0 {kind: List, items: []}"]
    lines += [f"a{n}: &a{n} {{kind: List, items: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
    text = "\n".join([*lines, "kind: List", "items: [*a11]"])
    assert problems(text) == ["f.yaml:1: more than 10000 objects in a file; split it"]


def test_anchors_and_merges_work() -> None:
    found = read(CONNECTION.replace("{port: 5432}", "&a {port: 5432}") + "  limits: &l {maxSessions: 5}\n")
    assert found.ok
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nx: &x {k: dg==, l: dg==}\ndata: {<<: *x, k: dw==}\n"
    assert problems(text) == ["f.yaml:4: Secret default/a: x: is not a field here"]
    merged = parse(text.replace("x: &x {k: dg==, l: dg==}\n", "").replace("*x", "{k: dg==, l: dg==}"))
    assert merged.secrets["default/a"].data == {"k": b"w", "l": b"v"}


POLICY = """\
apiVersion: ostiary.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: p}
spec:
  rules:
  - {name: one, action: Deny, expression: sql.a}
  - {name: two, action: Deny, expression: "sql.b"}
  - name: three
    action: Deny
    expression: |
      sql.c &&
        sql.d
  - name: four
    action: Deny
    expression: >-
      sql.e
"""


@pytest.mark.parametrize(
    ("path", "line", "column", "at"),
    [
        ("spec.rules[0].expression", 1, 5, (6, 47)),
        ("spec.rules[1].expression", 1, 5, (7, 48)),
        ("spec.rules[2].expression", 1, 5, (11, 11)),
        ("spec.rules[2].expression", 2, 7, (12, 13)),
        ("rules[three].expression", 2, 7, (12, 13)),
        ("spec.rules[3].expression", 1, 5, (16, 1)),
        ("spec.rules[1].action", 1, 1, (7, 25)),
        ("spec.rules[9].action", 1, 1, (5, 3)),
        ("spec.notThere", 1, 1, (4, 1)),
        ("", 1, 1, (1, 1)),
    ],
)
def test_a_place_inside_of_an_expression_is_found_in_the_file(
    path: str, line: int, column: int, at: tuple[int, int]
) -> None:
    found = parse(POLICY, "p.yaml")
    assert found.ok
    place = found.where(found.policies["default/p"], path, line, column)
    assert (place.line, place.column) == at


def test_problems_found_later_read_like_those_found_here() -> None:
    found = parse(POLICY, "p.yaml")
    problem = found.problem(found.policies["default/p"], "spec.rules[0].expression", "undefined field 'a'", 1, 5)
    assert str(problem) == "p.yaml:6: GatewayPolicy default/p: spec.rules[0].expression: undefined field 'a'"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text(st.sampled_from("abc:-[]{}&*!|>'\"#%@,? \n\t"), max_size=60))
def test_no_text_makes_it_raise(text: str) -> None:
    parse(text)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(POLICY) - 1), st.text(max_size=3))
def test_no_damage_to_a_policy_makes_it_raise(place: int, junk: str) -> None:
    found = parse(POLICY[:place] + junk + POLICY[place + 1 :])
    assert found.problems or found.notices or found.policies or found.secrets or not found.sources
