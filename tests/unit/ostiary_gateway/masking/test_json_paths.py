"""JSON paths: what is read, what is refused, and what each picks."""

from __future__ import annotations

import json

import pytest

from ostiary_gateway.masking.detectors import problem_of
from ostiary_gateway.masking.json_paths import parse_path
from ostiary_gateway.masking.json_walk import MAX_DEPTH, Malformed, State, Walker, apply
from ostiary_gateway.masking.selection import Selection
from ostiary_gateway.masking.strategies import MaskError
from ostiary_policy.masking import JsonPathMask, Strategy

REDACT = Strategy("Redact")


class Crosses:
    """Puts `"X"` where something was picked."""

    def value(self, _state: State, _raw: bytes, _begin: int) -> bytes:
        return b'"X"'

    def text(self, raw: bytes, _key: bool) -> bytes:
        return raw

    def number(self, raw: bytes) -> bytes:
        return raw

    def between(self) -> None: ...


def picked(path: str, document: str) -> str:
    selection = Selection([(parse_path(path), "tag")])
    data = document.encode()
    walker = Walker(Crosses(), None, selection.dead, False, False)
    return apply(data, 0, len(data), walker.walk(data, 0, len(data), selection.root)).decode()


CONTAINERS = '{"c":[{"env":[{"name":"A","value":"1"},{"name":"B","value":"2"}]},{"env":[{"value":"3","name":"A"}]}]}'


@pytest.mark.parametrize(
    ("path", "document", "wanted"),
    [
        ("$.data.*", '{"data":{"a":"1","b":{"c":2}},"x":{"data":{"a":1}}}',
         '{"data":{"a":"X","b":"X"},"x":{"data":{"a":1}}}'),
        ("$.data", '{"data":{"a":"1"}}', '{"data":"X"}'),
        ("$['data']['a.b/c']", '{"data":{"a.b/c":"1","a":2}}', '{"data":{"a.b/c":"X","a":2}}'),
        ("$..password", '[{"password":1},{"a":{"password":[2]}}]', '[{"password":"X"},{"a":{"password":"X"}}]'),
        ("$..a..b", '{"a":{"x":{"b":1}},"b":2}', '{"a":{"x":{"b":"X"}},"b":2}'),
        ("$.c[*].env[*].value", CONTAINERS,
         CONTAINERS.replace('"1"', '"X"').replace('"2"', '"X"').replace('"3"', '"X"')),
        ("$.c[0].env[1].value", CONTAINERS, CONTAINERS.replace('"2"', '"X"')),
        ("$.c[*].env[?(@.name=='A')].value", CONTAINERS, CONTAINERS.replace('"1"', '"X"').replace('"3"', '"X"')),
        ("$.c[*].env[?@.name != 'A'].value", CONTAINERS, CONTAINERS.replace('"2"', '"X"')),
        ("$.c[?(@.env && !(@.none || @.other == 1))].env", '{"c":[{"env":1},{"env":2,"none":0},{"no":3}]}',
         '{"c":[{"env":"X"},{"env":2,"none":0},{"no":3}]}'),
        ("$.a['x','y',1]", '{"a":{"x":1,"y":2,"z":3}}', '{"a":{"x":"X","y":"X","z":3}}'),
        ("$.a['x','y',1]", '{"a":[1,2,3]}', '{"a":[1,"X",3]}'),
        ("$.a[?(@ == null)]", '{"a":[null,1,"null"]}', '{"a":["X",1,"null"]}'),
        ("$.a[?(@.n == 1.5)].v", '{"a":[{"n":1.50,"v":1},{"n":"1.5","v":2}]}',
         '{"a":[{"n":1.50,"v":"X"},{"n":"1.5","v":2}]}'),
        ("$['it\\'s \"x\"', \"it's \\\"y\\\"\"]", '{"it\'s \\"x\\"":1,"it\'s \\"y\\"":2}',
         '{"it\'s \\"x\\"":"X","it\'s \\"y\\"":"X"}'),
        ("$.größe", '{"größe":1}', '{"größe":"X"}'),
        ("$.data.*", '{"data":[1,[2]],"other":1}', '{"data":["X","X"],"other":1}'),
        ("$.a.b", '{"a":"no object"}', '{"a":"no object"}'),
    ],
)  # fmt: skip
def test_a_path_picks(path: str, document: str, wanted: str) -> None:
    assert picked(path, document) == wanted


def test_names_are_compared_as_they_are_read() -> None:
    assert picked("$.data.*", r'{"\u0064ata":{"\u0061":1}}') == r'{"\u0064ata":{"\u0061":"X"}}'
    assert picked("$['a\"b']", r'{"a\"b":1}') == r'{"a\"b":"X"}'


def test_each_of_two_members_of_one_name_is_picked() -> None:
    assert picked("$.a", '{"a":1,"a":{"b":2},"\\u0061":3}') == '{"a":"X","a":"X","\\u0061":"X"}'
    twice = '{"e":[{"name":"A","name":"B","value":1}]}'
    for name in "AB":
        assert picked(f"$.e[?(@.name=='{name}')].value", twice) == twice.replace("1", '"X"')


def test_what_is_not_picked_stays_byte_for_byte() -> None:
    document = ' { "a" : [ 1e400 , -0.0, 12345678901234567890123 ] ,\n"b": "\\u00e9\\/\\ud800" , "c":\t1 } '
    assert picked("$.c", document) == document.replace("\t1", '\t"X"')


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("$", "alone is the whole object"), ("data", "must begin with `\\$`"), ("{.data}", "there are no braces"),
        ("$.a[-1]", "a number from 0 on"), ("$.a[1:2]", "slices are not supported"), ("$.a/b", "needs? brackets"),
        ("$.['x']", "without the dot"), ("$.a[?(@)]", "`@` alone"),
        ("$.a[?length(@.x)==1]", "`@`, the element"),
        ("$..a..b..c..d", "more than 3 times"), ("$.a['x]", "quotes is expected"),
        ("$.a[", "a key in quotes"),
        ("$.a[?(@.b == @.c)]", "a text in quotes, a number"),
        ("$.a[?(@.b =~ 'x')]", "`==` and `!=` only"),
        ("$.", "a name"),
        ("$.a[?(@.b == 'x'", "`\\)` is expected"), ("$.a[]", "a key in quotes"), ("$ .a", "`.name`"),
        ("$" + ".a" * 33, "more than 32 steps"), ("$.a[?" + "(" * 9 + "@.b" + ")" * 9 + "]", "brackets in one another"),
        ("$.a ", "`.name`"), ("$['\\x']", "an escape that JSON does not know"),
        ("$.a\\.b", "`.name`"), ("$.a[00]", "`,` or `]`"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused(path: str, wrong: str) -> None:
    with pytest.raises(MaskError, match=wrong):
        parse_path(path)


def test_a_policy_is_told_which_field_is_wrong() -> None:
    found = problem_of(JsonPathMask("$.a[-1]", REDACT))
    assert found is not None
    assert found[0] == "jsonPath"
    assert "'$.a[-1]' is no path that a mask can follow" in found[1]
    assert problem_of(JsonPathMask("$.data.*", REDACT)) is None


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "}", "[", "{]", "[}", '{"a"}', '{"a":}', '{"a":1,}', "[1,]", "[,1]", "1 2", "{} {}", "tru", "nul",
        "+1", "01", "1.", ".5", "1e", "--1", '"\x01"', '"\\x"', '"\\u12"', '"\\u12G4"', '"', '"\\"', "{'a':1}", "{a:1}",
        "[1]]", '{"a":1}}', "NaN", "Infinity", '["a" "b"]', '{"a":1 "b":2}', '{1:2}', "// x\n1", "\ufeff{}",
    ],
)  # fmt: skip
def test_text_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        json.loads(text, parse_constant=int)
    with pytest.raises(Malformed):
        picked("$..x", text)


def test_depth_is_bounded() -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert picked("$..x", deep) == deep
    with pytest.raises(Malformed, match="levels"):
        picked("$..x", "[" + deep + "]")
