"""What is asked of the API server to find out what a request would do, and what is made of its answers."""

from __future__ import annotations

import json

import pytest
from support.resultings import (
    APPLY,
    JSON_PATCH,
    MERGE,
    STRATEGIC,
    WEB,
    Talk,
    asked,
    changed,
    status,
    web,
)

from ostiary_gateway.protocols.kubernetes.dry_runs import DryRuns
from ostiary_gateway.protocols.kubernetes.messages import WireError
from ostiary_gateway.protocols.kubernetes.resulting import AFFECTED, EVERYTHING, OBJECT, OLD, OLDS, Refused, drifted

SCALE = f"{WEB}/scale"
FIFTY = {"spec": {"replicas": 50}}
CONFLICT = json.dumps(status(409, "Conflict")[1]).encode()


def scaled(replicas: int, version: str = "7") -> dict[str, object]:
    metadata = {"name": "web", "uid": "u-web", "resourceVersion": version}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": {"replicas": replicas}}


# -- what needs no question


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", WEB),
        ("GET", "/api/v1/pods?watch=1"),
        ("GET", "/healthz"),
        ("POST", "/reload"),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
    ],
)
def test_what_changes_no_object_is_asked_of_nobody(method: str, target: str) -> None:
    talk = Talk(asked(method, target))
    assert talk.asks == []
    assert talk.result.facts(EVERYTHING) == {"object": {}, "oldObject": {}, "oldObjects": [], "affected": 0}


def test_how_many_objects_a_patch_affects_is_known() -> None:
    talk = Talk(asked("PATCH", WEB, FIFTY, MERGE), frozenset({AFFECTED}))
    assert talk.result.facts(frozenset({AFFECTED})) == {"affected": 1}
    assert not talk.result.guarded


# -- changes


def test_object_and_dry_run_are_asked_for_at_once() -> None:
    talk = Talk(asked("PATCH", WEB, FIFTY, MERGE))
    assert talk.asks == [f"GET {WEB}", f"PATCH {WEB}?dryRun=All"]
    assert (b"user-agent", b"kubectl/v1.36") in talk.questions[1].headers, "the field manager is made of it"
    talk.told((200, web(3)), (200, web(50)))
    assert talk.result.object == web(50)
    assert talk.result.facts(EVERYTHING)["oldObjects"] == [web(3)]
    assert json.loads(talk.result.forward.body) == {**FIFTY, "metadata": {"resourceVersion": "7"}}


def test_only_what_is_needed_is_asked() -> None:
    talk = Talk(asked("PATCH", WEB, FIFTY, MERGE), frozenset({OBJECT}))
    assert talk.asks == [f"PATCH {WEB}?dryRun=All"]
    assert json.loads(talk.told((200, web(50))).result.forward.body)["metadata"] == {"resourceVersion": "7"}
    talk = Talk(asked("PATCH", WEB, FIFTY, MERGE), frozenset({OLD}))
    assert talk.asks == [f"GET {WEB}"]
    assert json.loads(talk.told((200, web(3))).result.forward.body)["metadata"] == {"resourceVersion": "7"}


def test_what_is_forwarded_is_what_was_dry_run_but_for_the_precondition() -> None:
    talk = Talk(asked("PATCH", WEB, '{ "spec" : {"replicas": 5e1} }', MERGE))
    dry = talk.questions[1].body
    talk.told((200, web(3)), (200, web(50)))
    sent = json.loads(talk.result.forward.body)
    del sent["metadata"]
    assert sent == json.loads(dry)


def test_an_object_that_changed_between_two_answers_is_looked_at_again() -> None:
    talk = Talk(asked("PATCH", WEB, FIFTY, MERGE))
    talk.told((200, web(3, "7")), (200, web(50, "8")))
    assert talk.asks == [f"GET {WEB}", f"PATCH {WEB}?dryRun=All"]
    talk.told((200, web(3, "8")), (200, web(50, "8")))
    assert talk.result.guarded


def test_an_object_that_never_rests_is_a_conflict() -> None:
    talk = Talk(asked("PATCH", WEB, FIFTY, MERGE))
    for version in range(4):
        talk.told((200, web(3, str(version))), (200, web(50, str(version + 1))))
    with pytest.raises(Refused, match="changes all the time") as refused:
        talk.told((200, web(3, "8")), (200, web(50, "9")))
    assert (refused.value.status, refused.value.answer) == (409, None)


def test_an_object_made_anew_under_its_name_is_another() -> None:
    talk = Talk(asked("PATCH", WEB, FIFTY, MERGE))
    talk.told((200, web(3)), (200, changed(web(50), metadata__uid="u-new")))
    assert talk.done is None


def test_a_json_patch_gets_a_test_before_its_operations() -> None:
    operations = [{"op": "replace", "path": "/spec/replicas", "value": 50}]
    talk = Talk(asked("PATCH", WEB, operations, JSON_PATCH)).told((200, web(3)), (200, web(50)))
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    assert json.loads(talk.result.forward.body) == [test, *operations]


def test_a_precondition_of_the_client_is_checked_by_the_dry_run() -> None:
    talk = Talk(asked("PUT", WEB, web(50, "5")))
    with pytest.raises(Refused) as refused:
        talk.told((200, web(3)), status(409, "Conflict", "the object has been modified"))
    assert refused.value.answer is not None
    assert refused.value.message == "the object has been modified"


def test_a_strategic_patch_that_would_take_the_precondition_away_is_refused() -> None:
    talk = Talk(asked("PATCH", WEB, {"$patch": "replace", **web(50)}, STRATEGIC))
    with pytest.raises(WireError, match="Send the whole object with PUT"):
        talk.told((200, web(3)), (200, web(50)))


def test_the_api_servers_own_error_is_the_answer() -> None:
    talk = Talk(asked("PATCH", WEB, FIFTY, MERGE))
    with pytest.raises(Refused, match=r"spec\.replicas: Invalid value") as refused:
        talk.told((200, web(3)), status(422, "Invalid", "spec.replicas: Invalid value"))
    assert refused.value.status == 422
    assert refused.value.answer is not None


def test_a_webhook_without_dry_runs_leaves_the_object_unknown() -> None:
    talk = Talk(asked("PATCH", WEB, FIFTY, MERGE))
    message = 'admission webhook "quota.example" does not support dry run'
    talk.told((200, web(3)), status(400, "BadRequest", message))
    assert talk.result.missing == {OBJECT: message}
    assert talk.result.facts(EVERYTHING).keys() == {"oldObject", "oldObjects", "affected"}
    assert talk.result.guarded, "what is known holds still"


def test_an_object_that_may_not_be_read_is_not_known() -> None:
    talk = Talk(asked("PATCH", WEB, FIFTY, MERGE))
    talk.told(status(403, "Forbidden", "deployments is forbidden"), (200, web(50)))
    assert "deployments is forbidden" in talk.result.missing[OLD]
    assert talk.result.facts(EVERYTHING).keys() == {"object", "affected"}
    assert json.loads(talk.result.forward.body)["metadata"] == {"resourceVersion": "7"}


@pytest.mark.parametrize("subresource", ["status", "approval", "finalize"])
def test_a_subresource_that_answers_with_the_object_is_a_write_to_that_version(subresource: str) -> None:
    talk = Talk(asked("PUT", f"{WEB}/{subresource}", web(3)))
    assert talk.asks == [f"GET {WEB}", f"PUT {WEB}/{subresource}?dryRun=All"]
    talk.told((200, web(3, "7")), (200, web(3, "8")))
    assert talk.done is None, "it changed meanwhile"
    talk.told((200, web(3, "8")), (200, web(3, "8")))
    assert json.loads(talk.result.forward.body)["metadata"]["resourceVersion"] == "8"


def test_a_subresource_with_an_object_of_its_own_has_no_version_of_the_other() -> None:
    talk = Talk(asked("POST", "/api/v1/namespaces/shop/pods/web/binding", {"target": {"name": "node"}}))
    talk.told((200, web(3)), (201, {"kind": "Token", "apiVersion": "example.com/v1"}))
    assert talk.result.object == {"kind": "Token", "apiVersion": "example.com/v1"}
    assert not talk.result.guarded


def test_what_a_binding_makes_of_its_pod_is_not_known() -> None:
    done = (201, {"kind": "Status", "apiVersion": "v1", "status": "Success"})
    talk = Talk(asked("POST", "/api/v1/namespaces/shop/pods/web/binding", {"target": {"name": "node"}}))
    talk.told((200, web(3)), done)
    assert "object" not in talk.result.facts(EVERYTHING), "or rules would take it for one that has no spec"
    assert talk.result.facts(EVERYTHING)["oldObject"] == web(3)
    assert talk.result.missing
    talk = Talk(asked("POST", "/api/v1/namespaces/shop/bindings", {"target": {"name": "node"}}))
    talk.told(done)
    assert "object" not in talk.result.facts(EVERYTHING)


# -- what is not there yet


def test_a_creation_is_dry_run_only() -> None:
    talk = Talk(asked("POST", WEB.removesuffix("/web"), web()))
    assert talk.asks == [f"POST {WEB.removesuffix('/web')}?dryRun=All"]
    talk.told((201, web(3)))
    assert (talk.result.object, talk.result.old, talk.result.guarded) == (web(3), {}, False)


def test_an_apply_that_creates_must_find_nothing_there() -> None:
    talk = Talk(asked("PATCH", f"{WEB}?fieldManager=x", web(50), APPLY))
    made = changed(web(50), metadata={"name": "web", "uid": "u-dry"})
    talk.told(status(404, "NotFound"), (201, made))
    assert (talk.result.old, talk.result.facts(EVERYTHING)["oldObjects"]) == ({}, [])
    assert json.loads(talk.result.forward.body)["metadata"]["resourceVersion"] == "1"


def test_an_apply_in_yaml_is_forwarded_as_json() -> None:
    body = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 50\n"
    talk = Talk(asked("PATCH", WEB, body, APPLY))
    assert json.loads(talk.questions[1].body)["spec"] == {"replicas": 50}
    talk.told((200, web(3)), (200, web(50)))
    assert json.loads(talk.result.forward.body)["spec"] == {"replicas": 50}
    assert talk.result.forward.head.get(b"content-type") == APPLY.encode()


def test_a_patch_of_nothing_is_the_api_servers_not_found() -> None:
    talk = Talk(asked("PATCH", WEB, FIFTY, MERGE), frozenset({OLD}))
    with pytest.raises(Refused, match="web is not there"):
        talk.told(status(404, "NotFound", "web is not there"))


# -- scale


@pytest.mark.parametrize("content_type", [MERGE, STRATEGIC, APPLY])
def test_a_scale_is_the_deployment_with_so_many_replicas(content_type: str) -> None:
    talk = Talk(asked("PATCH", SCALE, FIFTY, content_type), frozenset({OBJECT}))
    assert talk.asks == [f"GET {WEB}", f"PATCH {SCALE}?dryRun=All"]
    talk.told((200, web(3)), (200, scaled(50)))
    assert talk.result.object == changed(web(3), spec__replicas=50)
    assert talk.result.old == web(3)
    assert json.loads(talk.result.forward.body)["metadata"] == {"resourceVersion": "7"}


def test_scaling_to_nothing_is_a_scale_without_replicas() -> None:
    talk = Talk(asked("PUT", SCALE, {"kind": "Scale"}))
    talk.told((200, web(3)), (200, {**scaled(0), "spec": {}}))
    assert talk.result.object == changed(web(3), spec__replicas=0)


WIDGET = "/apis/example.com/v1/namespaces/shop/widgets/w"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com"
OPENAPI = "/openapi/v3/apis/example.com/v1"


def definition(path: str = ".spec.size.count") -> dict[str, object]:
    version = {"name": "v1", "served": True, "subresources": {"scale": {"specReplicasPath": path}}}
    return {"kind": "CustomResourceDefinition", "spec": {"versions": [version]}}


def test_a_custom_resource_is_scaled_where_its_definition_says() -> None:
    talk = Talk(asked("PATCH", f"{WIDGET}/scale", FIFTY, MERGE))
    assert talk.asks == [f"GET {OPENAPI}", f"GET {CRD}"]
    talk.told((404, {}), (200, definition()))
    assert talk.asks == [f"GET {CRD}"]
    talk.told((200, definition()))
    widget = {"kind": "Widget", "metadata": {"uid": "u-web", "resourceVersion": "7"}, "spec": {"size": {"count": 1}}}
    talk.told((200, widget), (200, scaled(50)))
    assert talk.result.object == changed(widget, spec__size__count=50)


def test_a_scale_without_a_readable_definition_is_not_known() -> None:
    known = DryRuns()
    known.learn("PATCH", "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}/scale", 0.0)
    talk = Talk(asked("PATCH", f"{WIDGET}/scale", FIFTY, MERGE), known=known)
    talk.told(status(403, "Forbidden"))
    talk.told((200, {"metadata": {"uid": "u-web", "resourceVersion": "7"}}), (200, scaled(50)))
    assert "widgets.example.com cannot be read (403)" in talk.result.missing[OBJECT]


# -- what has no dry run


def test_an_aggregated_api_is_dry_run_only_if_it_declares_it() -> None:
    target = "/apis/subresources.kubevirt.io/v1/namespaces/shop/virtualmachines/vm/start"
    talk = Talk(asked("PUT", target, {}))
    assert talk.asks == ["GET /openapi/v3/apis/subresources.kubevirt.io/v1"]
    path = "/apis/subresources.kubevirt.io/v1/namespaces/{namespace}/virtualmachines/{name}/start"
    talk.told((200, {"paths": {path: {"put": {"parameters": [{"name": "pretty", "in": "query"}]}}}}))
    assert talk.asks == ["GET /apis/subresources.kubevirt.io/v1/namespaces/shop/virtualmachines/vm"]
    talk.told((200, web()))
    assert "declares no dry run for PUT of virtualmachines/start" in talk.result.missing[OBJECT]


def test_what_was_found_to_have_dry_runs_is_not_asked_again() -> None:
    known = DryRuns()
    path = "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"
    declared = {"paths": {path: {"patch": {"parameters": [{"name": "dryRun", "in": "query"}]}}}}
    Talk(asked("PATCH", WIDGET, FIFTY, MERGE), known=known).told((200, declared), (404, {}))
    assert Talk(asked("PATCH", WIDGET, FIFTY, MERGE), known=known).asks == [
        f"GET {WIDGET}", f"PATCH {WIDGET}?dryRun=All",
    ]  # fmt: skip


def test_a_token_request_is_never_dry_run() -> None:
    talk = Talk(asked("POST", "/api/v1/namespaces/shop/serviceaccounts/agent/token", {"spec": {}}))
    assert talk.asks == ["GET /api/v1/namespaces/shop/serviceaccounts/agent"]
    talk.told((200, {"kind": "ServiceAccount"}))
    assert (talk.result.object, talk.result.old) == ({}, {"kind": "ServiceAccount"})


def test_a_connection_is_about_the_object_as_it_is() -> None:
    talk = Talk(asked("POST", "/api/v1/namespaces/shop/pods/web-1/exec?command=sh"))
    assert talk.asks == ["GET /api/v1/namespaces/shop/pods/web-1"]
    talk.told((200, {"kind": "Pod"}))
    assert talk.result.object == talk.result.old == {"kind": "Pod"}


@pytest.mark.parametrize("name", ["web", "web:80", "https:web:443", "https:web:"])
def test_a_proxys_name_has_scheme_and_port(name: str) -> None:
    talk = Talk(asked("GET", f"/api/v1/namespaces/shop/services/{name}/proxy/a/b"))
    assert talk.asks == ["GET /api/v1/namespaces/shop/services/web"]


# -- deletions


def test_a_deletion_is_never_dry_run_and_gets_its_precondition_in_the_query() -> None:
    talk = Talk(asked("DELETE", f"{WEB}?propagationPolicy=Orphan"))
    assert talk.asks == [f"GET {WEB}"]
    talk.told((200, web()))
    assert (talk.result.object, talk.result.old) == ({}, web())
    expected = f"{WEB}?resourceVersion=7&uid=u-web&propagationPolicy=Orphan"
    assert talk.result.forward.head.target == expected.encode()


def test_a_deletion_with_a_body_gets_it_in_the_body() -> None:
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
    talk = Talk(asked("DELETE", WEB, options)).told((200, web()))
    assert json.loads(talk.result.forward.body) == {
        **options, "preconditions": {"resourceVersion": "7", "uid": "u-web"},
    }  # fmt: skip
    assert talk.result.forward.head.target == WEB.encode()


@pytest.mark.parametrize(
    "ask",
    [
        asked("DELETE", WEB, {"preconditions": {"resourceVersion": "9"}}),
        asked("DELETE", WEB, {"preconditions": {"uid": "u-other"}}),
        asked("DELETE", f"{WEB}?uid=u-other"),
        asked("POST", "/api/v1/namespaces/shop/pods/web/eviction", {"deleteOptions": {"preconditions": {"uid": "x"}}}),
    ],
)
def test_a_precondition_that_does_not_hold_now_is_a_conflict_now(ask: object) -> None:
    talk = Talk(ask)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="does not hold") as refused:
        talk.told((200, web()))
    assert refused.value.status == 409


def test_an_eviction_is_about_the_pod() -> None:
    body = {"kind": "Eviction", "metadata": {"name": "web-1"}}
    talk = Talk(asked("POST", "/api/v1/namespaces/shop/pods/web-1/eviction", body))
    assert talk.asks == ["GET /api/v1/namespaces/shop/pods/web-1"]
    talk.told((200, web()))
    sent = json.loads(talk.result.forward.body)
    assert sent["deleteOptions"] == {"preconditions": {"resourceVersion": "7", "uid": "u-web"}}


# -- collections

MAPS = "/api/v1/namespaces/shop/configmaps"


def test_all_that_a_collection_selects_is_listed_page_by_page() -> None:
    talk = Talk(asked("DELETE", f"{MAPS}?labelSelector=a%3Db&propagationPolicy=Orphan"))
    assert talk.asks == [f"GET {MAPS}?labelSelector=a%3Db&limit=500"]
    talk.told((200, {"metadata": {"resourceVersion": "90", "continue": "more"}, "items": [web(1)]}))
    assert talk.asks == [f"GET {MAPS}?labelSelector=a%3Db&limit=500&continue=more"]
    talk.told((200, {"metadata": {"resourceVersion": "90"}, "items": [web(2)]}))
    made = talk.result
    assert made.facts(EVERYTHING) == {"object": {}, "oldObjects": [web(1), web(2)], "affected": 2}
    target = f"{MAPS}?labelSelector=a%3Db&propagationPolicy=Orphan&resourceVersion=90&resourceVersionMatch=Exact"
    assert made.forward.head.target == target.encode()
    assert json.loads(made.forward.body) == {
        "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Orphan",
    }  # fmt: skip


def test_the_number_alone_needs_no_objects() -> None:
    talk = Talk(asked("DELETE", MAPS), frozenset({AFFECTED}))
    accept = dict(talk.questions[0].headers)[b"accept"]
    assert b"as=PartialObjectMetadataList" in accept


def test_a_watch_is_never_made_of_the_list() -> None:
    talk = Talk(asked("DELETE", f"{MAPS}?watch=true&dryRun=All"))
    assert talk.asks == [f"GET {MAPS}?limit=500"]


def test_a_clients_own_page_is_the_only_one() -> None:
    talk = Talk(asked("DELETE", f"{MAPS}?limit=2"))
    assert talk.asks == [f"GET {MAPS}?limit=2"]
    talk.told((200, {"metadata": {"resourceVersion": "90", "continue": "more"}, "items": [web(1), web(2)]}))
    assert talk.result.affected == 2
    assert talk.result.forward.head.target.endswith(b"?limit=2&resourceVersion=90&resourceVersionMatch=Exact")


def test_too_many_objects_are_not_known() -> None:
    talk = Talk(asked("DELETE", MAPS))
    talk.told((200, {"metadata": {"resourceVersion": "90"}, "items": [{}] * 5_001}))
    assert "more than 5,000 objects" in talk.result.missing[OLDS]
    assert talk.result.facts(EVERYTHING) == {"object": {}}


# -- when the precondition fails


def test_a_conflict_of_our_own_is_told_from_others() -> None:
    made = Talk(asked("PATCH", WEB, FIFTY, MERGE)).told((200, web(3)), (200, web(50))).result
    assert drifted(made, 409, CONFLICT)
    assert not drifted(made, 422, CONFLICT)
    managers = status(409, "Conflict", details={"causes": [{"reason": "FieldManagerConflict"}]})[1]
    assert not drifted(made, 409, json.dumps(managers).encode()), "of server-side apply"
    assert not drifted(made, 409, json.dumps(status(409, "AlreadyExists")[1]).encode())
    made.guarded = False
    assert not drifted(made, 409, CONFLICT)


def test_a_json_patch_says_only_that_it_is_invalid() -> None:
    operations = [{"op": "remove", "path": "/spec/paused"}]
    made = Talk(asked("PATCH", WEB, operations, JSON_PATCH)).told((200, web(3)), (200, web(3))).result
    assert drifted(made, 422, json.dumps(status(422, "Invalid")[1]).encode())
