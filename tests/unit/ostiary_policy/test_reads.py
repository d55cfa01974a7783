from __future__ import annotations

import pytest

from ostiary_policy.expression import compile_expression
from ostiary_policy.reads import Reads
from ostiary_policy.schema import everything_below

ALL = ("request", "sql", "k8s", "ssh")


def reads(text: str) -> Reads:
    return compile_expression(text, facts=ALL, variables={}, wanted="any").reads


STATEMENT = set(everything_below("sql.statements"))
RELATION = set(everything_below("sql.statements.relations"))


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("true", set()),
        ("sql.text == 'x'", {"sql.text"}),
        ("sql.statements.exists(s, s.verb == 'DROP')", {"sql.statements", "sql.statements.verb"}),
        ("sql.statements.all(s, s.relations.all(r, r.name != 'x' && r.access == 'read'))",
         {"sql.statements", "sql.statements.relations", "sql.statements.relations.name",
          "sql.statements.relations.access"}),
        ("sql.statements.exists_one(s, s.opaque)", {"sql.statements", "sql.statements.opaque"}),
        ("sql.statements.filter(s, s.writes).size() > 1", {"sql.statements", "sql.statements.writes"}),
        ("sql.statements.map(s, s.verb) == ['DROP']", {"sql.statements", "sql.statements.verb"}),
        ("sql.statements.filter(s, s.writes).map(s, s.kind)[0] == ''",
         {"sql.statements", "sql.statements.writes", "sql.statements.kind"}),
        ("sql.statements.map(s, s.writes, s.kind)[0] == ''",
         {"sql.statements", "sql.statements.writes", "sql.statements.kind"}),
        ("sql.statements[0].relations[1].name == ''",
         {"sql.statements", "sql.statements.relations", "sql.statements.relations.name"}),
        ("size(sql.statements) > 1", {"sql.statements"}),
        ("sql.statements.size() > 1", {"sql.statements"}),
        ("size(sql.text) > 1", {"sql.text"}),
        ("sql.statements == []", STATEMENT),
        ("sql.statements[0] == sql.statements[1]", STATEMENT),
        ("sql.statements[0].relations == []", RELATION | {"sql.statements"}),
        ("sql.statements + [] == []", STATEMENT),
        ("[sql.statements[0]].exists(s, s.verb == '')", {"sql.statements", "sql.statements.verb"}),
        ("(sql.inTransaction ? sql.statements : []).exists(s, s.verb == '')",
         {"sql.inTransaction", "sql.statements", "sql.statements.verb"}),
        ("{'a': sql.statements}.a.exists(s, s.verb == '')", {"sql.statements", "sql.statements.verb"}),
        ("cel.bind(s, sql.statements[0], s.verb == s.kind)",
         {"sql.statements", "sql.statements.verb", "sql.statements.kind"}),
        ("[1, 2].exists(sql, sql > 1)", set()),
        ("sql.statements.exists(sql, sql.verb == '')", {"sql.statements", "sql.statements.verb"}),
        ("sql.statements.exists(s, s.settings.exists(s, s == 'role'))", {"sql.statements", "sql.statements.settings"}),
        ("request.connection.labels.env == 'prod'", {"request.connection.labels"}),
        ("request.connection.labels['env'] == 'prod'", {"request.connection.labels"}),
        ("'env' in request.connection.labels", {"request.connection.labels"}),
        ("request.connection.labels.exists(k, k == 'env')", {"request.connection.labels"}),
        ("request.subject.claims.a.b.c == 1", {"request.subject.claims"}),
        ("has(request.subject.claims.a)", {"request.subject.claims"}),
        ("request.subject.groups.exists(g, g in ['a'])", {"request.subject.groups"}),
        ("request.time.getHours() < 6", {"request.time"}),
        ("k8s.object.spec.replicas > 3", {"k8s.object"}),
        ("ssh.commands.exists(c, c.program == 'rm' && '-r' in c.flags)",
         {"ssh.commands", "ssh.commands.program", "ssh.commands.flags"}),
        ("string(sql.text).lowerAscii().contains('x')", {"sql.text"}),
        ("sql.statements.map(s, {'v': s.verb})[0].v == ''", {"sql.statements", "sql.statements.verb"}),
        ("dyn(request.client).address == ''", set(everything_below("request.client"))),
    ],
)  # fmt: skip
def test_what_an_expression_reads(text: str, facts: set[str]) -> None:
    assert reads(text).facts == facts


@pytest.mark.parametrize(
    ("text", "presence"),
    [
        ("sql.estimatedRows > 1", set()),
        ("has(sql.estimatedRows)", {"sql.estimatedRows"}),
        ("!has(sql.params) || sql.params == []", {"sql.params"}),
        ("[sql].exists(s, has(s.estimatedRows))", {"sql.estimatedRows"}),
        ("sql == sql", {"sql.estimatedRows", "sql.params"}),
        ("dyn(sql).text == ''", {"sql.estimatedRows", "sql.params"}),
        ("has(k8s.object.spec)", set()),
        ("has(k8s.object) && has(k8s.oldObject)", {"k8s.object", "k8s.oldObject"}),
        ("has(sql.text)", set()),
    ],
)
def test_facts_whose_absence_would_change_the_value(text: str, presence: set[str]) -> None:
    assert reads(text).presence == presence
