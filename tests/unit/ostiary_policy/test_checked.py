from __future__ import annotations

import pytest
from google.protobuf import any_pb2

from ostiary_policy.checked import CheckedTree
from ostiary_policy.environment import RUNTIME, typed

ENVIRONMENT = typed(("request", "sql"), {})


def tree(text: str) -> CheckedTree:
    return CheckedTree(ENVIRONMENT.compile(text).serialize())


def test_a_tree_has_kinds_types_and_places() -> None:
    root = tree("sql.text == 'x'").root
    assert (root.kind, root.name, root.type) == ("call", "_==_", "bool")
    select, constant = root.parts
    assert (select.kind, select.name, select.type, select.parts[0].type) == ("select", "text", "string", "ostiary.Sql")
    assert (constant.value, constant.offset) == ("x", 12)


def test_an_untouched_tree_evaluates_as_before() -> None:
    for text in (
        "sql.text == 'x'",
        "[1, 2].exists(i, i > 1)",
        "{'a': [1u, 2.5, b'x', null]}.a.size() == 4",
        "has(sql.text)",
    ):
        program = RUNTIME.deserialize(tree(text).serialize())
        assert program.eval(data={"sql": {"text": "x"}}).plain_value() is True


def test_what_the_engine_does_not_write_is_refused() -> None:
    other = any_pb2.Any(type_url="type.googleapis.com/cel.expr.ParsedExpr").SerializeToString()
    with pytest.raises(ValueError, match="the engine serialises"):
        CheckedTree(other)
