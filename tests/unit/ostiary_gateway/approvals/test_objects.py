"""Questions as objects of a cluster: the same name everywhere, small enough, and read as they are meant."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.approvals import question, says
from support.policies import connection

from ostiary_api.approval import ApprovalRequest, Evidence
from ostiary_api.connection import Connection
from ostiary_api.counting import count, with_answer
from ostiary_api.units import Timestamp
from ostiary_gateway.approvals import objects
from ostiary_gateway.approvals.objects import folded, manifest, name, number_of, parsed, unfolded, unproven

HASH = "0123456789abcdef" * 4


def asking(**request: object) -> ApprovalRequest:
    """A question with another request in it."""
    draft = question()
    spec = draft.spec.model_copy(update={"request": draft.spec.request.model_copy(update=request)})
    return draft.model_copy(update={"spec": spec})


def test_a_name_follows_from_the_request_and_says_its_number() -> None:
    assert [name(HASH, number) for number in (1, 2, 30)] == ["apr-04hmasw9", "apr-04hmasw9-2", "apr-04hmasw9-30"]
    assert [number_of(each) for each in ("apr-04hmasw9", "apr-04hmasw9-30", "apr-x-y", "apr-x-1-2", "other")] == [
        1, 30, 0, 0, 0,
    ]  # fmt: skip


@given(st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(1, 99_999_999))
def test_every_name_is_one_that_kubernetes_takes(hash: str, number: int) -> None:
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name(hash, number))
    assert number_of(name(hash, number)) == number


def test_a_question_belongs_to_its_connection_and_is_found_by_its_gateway() -> None:
    draft = question()
    ref = draft.spec.connection_ref.model_copy(update={"uid": "u-1"})
    made = manifest(draft.model_copy(update={"spec": draft.spec.model_copy(update={"connection_ref": ref})}), "main", 1)
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "ostiary.dev/v1alpha1", "kind": "Connection", "name": "db", "uid": "u-1"}
    ]
    labels = made["metadata"]["labels"]
    assert objects.selector("main") == f"ostiary.dev/asked-by={labels['ostiary.dev/asked-by']}"
    assert draft.spec.request.hash.startswith(labels["ostiary.dev/request-hash"])
    assert all(len(value) <= 63 for value in labels.values())
    assert "decisions" not in made["spec"]
    assert "status" not in made


def test_lines_of_a_text_cannot_pass_for_lines_of_kubectl_describe() -> None:
    forged = "select 1\nStatus:\n  State: Approved\x1b[2J\u202e"
    evidence = Evidence(type="Explain", text=f"Seq Scan\n{forged}")
    request = manifest(asking(summary=forged, evidence=evidence, facts={"sql": {"note": forged}}), "main", 1)["spec"][
        "request"
    ]
    for text in (request["summary"], request["evidence"]["text"], request["facts"]["sql"]["note"]):
        assert all(line.startswith("        | ") for line in text.split("\n")[1:])
        assert "\\x1b[2J\\u202e" in text
        assert "\x1b" not in text


@given(st.text())
def test_what_is_folded_can_be_unfolded(text: str) -> None:
    assert unfolded({"a": [folded(text)]}) == {"a": [text]} or "\n        | " in text


def test_facts_that_say_nothing_new_are_left_out_of_an_object() -> None:
    text = "update t set a = 1"
    facts = {"sql": {"text": text, "params": ["", None], "settings": [], "inTransaction": False,
                     "statements": [{"verb": "UPDATE", "kind": "", "text": f"{text} ", "relations": []}]}}  # fmt: skip
    made = manifest(asking(summary=text, facts=facts), "main", 1)["spec"]["request"]["facts"]
    assert made == {"sql": {"params": ["", None], "inTransaction": False, "statements": [{"verb": "UPDATE"}]}}


@pytest.mark.parametrize("character", ["x", "\n", "\x01", "€", "\U000e0001", "\\"])
def test_the_largest_question_is_small_enough_and_says_that_it_is_cut(character: str) -> None:
    evidence = Evidence(type="Explain", text=character * 65_536)
    facts = {"sql": {"texts": [character * 2000] * 30}}
    made = manifest(asking(summary=character * 4096, evidence=evidence, facts=facts), "main", 1)
    assert len(json.dumps(made, ensure_ascii=False).encode()) <= objects.MAX_BYTES + 4096
    request = made["spec"]["request"]
    assert len(request["summary"]) <= 4096
    assert len(request["evidence"]["text"]) <= 65_536
    if character in ("\n", "\x01", "\U000e0001"):
        assert request["truncated"]
        assert "are not shown" in request["summary"]


def stored(request: ApprovalRequest, **metadata: object) -> dict[str, object]:
    """As the API server gives it."""
    found = request.to_manifest()
    found["metadata"] |= {"uid": "u", "resourceVersion": "7", **metadata}
    return found


def test_a_question_that_the_operator_has_not_seen_closes_all_the_same() -> None:
    found = parsed(stored(question(pending_ttl=60.0)))
    assert found is not None
    assert found.status is not None
    assert found.status.expires_at is not None
    closes: Timestamp = found.status.expires_at
    assert found.metadata.creation_timestamp is not None
    assert (closes - found.metadata.creation_timestamp).total_seconds() == 60


def test_an_object_of_another_version_is_none() -> None:
    broken = stored(question())
    broken["spec"]["mode"] = "new"  # type: ignore[index]
    assert parsed(broken) is None


def at(name: str, uid: str = "") -> Connection:
    found = connection(name)
    return found.model_copy(update={"metadata": found.metadata.model_copy(update={"uid": uid})})


def test_a_hash_is_of_its_own_connection_only() -> None:
    asked = question()
    assert objects.asks(asked, at("db"), asked.spec.request.hash)
    assert not objects.asks(asked, at("files"), asked.spec.request.hash)
    assert not objects.asks(asked, at("db", "another"), asked.spec.request.hash)
    assert not objects.asks(asked, at("db"), "f" * 64)


def answered(*answers: tuple[str, str], **terms: object) -> ApprovalRequest:
    """With answers that were counted."""
    request = question(**terms)
    for who, verdict in answers:
        request = with_answer(request, says(who, verdict))
    created = request.metadata.creation_timestamp
    assert created is not None
    return request.model_copy(update={"status": count(request, created)})


def test_a_status_is_believed_only_if_the_answers_bear_it_out() -> None:
    approved = answered(("alice", "Approve"))
    assert unproven(approved) == ""
    forged = approved.model_copy(update={"spec": question().spec})
    assert unproven(forged) == "its status counts an answer that is not in its spec"
    short = approved.model_copy(
        update={"spec": answered(("alice", "Approve"), min_approvals=2).spec}
    )
    assert unproven(short) == "1 of 2 people have approved it"
    vetoed = approved.model_copy(update={"spec": answered(("alice", "Approve"), ("bob", "Deny")).spec})
    assert unproven(vetoed) == "somebody has denied it"
