"""Who may answer for which group."""

from __future__ import annotations

import os

import pytest

from ostiary_gateway.approvals.people import Approvers, ApproversError, Person, parse_approvers, person_of

OWNER, ROOT = Person(1000, "alice", frozenset({"alice"})), Person(0, "root", frozenset({"root"}))
BOB = Person(1001, "bob", frozenset({"bob", "dbas"}))


def test_by_default_who_runs_the_gateway_and_root_answer_for_any_group_as_one() -> None:
    approvers = Approvers(owner=1000)
    for person in (OWNER, ROOT):
        standing = approvers.standing(person, ["dba"])
        assert standing is not None
        assert standing.operator
        assert "for dba" in standing.acting
    assert approvers.standing(BOB, ["dba"]) is None
    assert not approvers.knows(BOB)


def test_with_members_named_only_they_answer() -> None:
    approvers = Approvers(parse_approvers(["dba=carol,%dbas", "security=alice"]), owner=1000)
    standing = approvers.standing(BOB, ["dba"])
    assert standing is not None
    assert (standing.acting, standing.operator) == ("member of dba by the system's group dbas", False)
    assert approvers.standing(OWNER, ["dba"]) is None
    assert approvers.standing(OWNER, ["dba", "security"]) is not None
    assert approvers.standing(ROOT, ["dba", "security"]) is None
    assert approvers.knows(OWNER)
    assert not approvers.knows(ROOT)


@pytest.mark.parametrize("option", ["dba", "=alice", "dba=", "dba=%", "dba=alice,,bob"])
def test_an_option_that_says_nothing_is_refused(option: str) -> None:
    with pytest.raises(ApproversError, match="GROUP=USER"):
        parse_approvers([option])


def test_a_user_without_a_name_is_a_number() -> None:
    assert person_of(os.getuid()).uid == os.getuid()
    assert person_of(4_000_000).name == "uid:4000000"
