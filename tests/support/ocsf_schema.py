"""What OCSF 1.8.0 says of the classes that are exported, in short, and a check of events against it.

A class or object is a list of `name:type`; `!` means required, `[]` a list, `=` the numbers that it may have. Behind
`|` stand those of which there must be one. Only attributes that are used stand here; the schema is at schema.ocsf.io.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

CLASSES: Final = {
    0: """
        action:string action_id:integer=0,1,2,3,4,99 activity_id!:integer=0,99 activity_name:string
        actor:actor authorizations:authorization[] category_name:string category_uid!:integer
        class_name:string class_uid!:integer disposition:string
        disposition_id:integer=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,99
        duration:long end_time:timestamp is_alert:boolean message:string metadata!:metadata
        observables:observable[] policy:policy severity:string severity_id!:integer=0,1,2,3,4,5,6,99
        start_time:timestamp status:string status_code:string status_detail:string status_id:integer=0,1,2,99
        time!:timestamp type_name:string type_uid!:long unmapped:object
    """,
    1001: """
        activity_id!:integer=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,99 actor!:actor device!:device file!:file
        file_result:file
    """,
    1007: """
        activity_id!:integer=0,1,2,3,4,5,99 actor!:actor device!:device exit_code:integer process!:process
    """,
    3002: """
        activity_id!:integer=0,1,2,3,4,5,6,7,99 actor:actor dst_endpoint:network_endpoint is_remote:boolean
        logon_type:string logon_type_id:integer=0,1,2,3,4,5,7,8,9,10,11,12,13,99 service:service
        session:session src_endpoint:network_endpoint user!:user | service dst_endpoint
    """,
    4007: """
        activity_id!:integer=0,1,2,3,4,5,6,7,99 dst_endpoint:network_endpoint src_endpoint:network_endpoint |
        dst_endpoint src_endpoint
    """,
    6003: """
        activity_id!:integer=0,1,2,3,4,99 actor!:actor api!:api dst_endpoint:network_endpoint
        http_request:http_request http_response:http_response resources:resource_details[]
        src_endpoint!:network_endpoint
    """,
    6005: """
        activity_id!:integer=0,1,2,3,4,5,6,7,8,9,10,99 actor!:actor database:database
        dst_endpoint:network_endpoint query_info:query_info src_endpoint!:network_endpoint type:string
        type_id:integer=0,1,2,3,99 | database databucket table
    """,
}

OBJECTS: Final = {
    "metadata": """
        correlation_uid:string log_name:string product!:product profiles:string[] sequence:integer uid:string
        version!:string
    """,
    "product": """
        name:string vendor_name:string version:string | name uid
    """,
    "actor": """
        session:session user:user | process user invoked_by session app_name app_uid
    """,
    "user": """
        groups:group[] name:string type:string type_id:integer=0,1,2,3,4,99 uid:string | account name uid
    """,
    "group": """
        name:string | name uid
    """,
    "session": """
        created_time:timestamp is_remote:boolean uid:string
    """,
    "network_endpoint": """
        ip:ip name:string uid:string | ip uid name hostname svc_name instance_uid interface_uid interface_name
        domain
    """,
    "database": """
        name:string type:string type_id!:integer=0,1,2,3,4,5,6,7,8,99 uid:string | name uid
    """,
    "query_info": """
        query_string!:string uid:string | name uid
    """,
    "api": """
        group:group operation!:string request:request response:response service:service version:string
    """,
    "request": """
        uid!:string
    """,
    "response": """
        code:integer error:string error_message:string
    """,
    "service": """
        name:string uid:string | name uid
    """,
    "resource_details": """
        name:string namespace:string type:string | name uid
    """,
    "http_request": """
        http_method:string uid:string url:url user_agent:string
    """,
    "http_response": """
        code!:integer
    """,
    "url": """
        path:string query_string:string url_string:string | url_string path
    """,
    "file": """
        name!:string path:string type:string type_id!:integer=0,1,2,3,4,5,6,7,8,99 | name uid
    """,
    "process": """
        cmd_line:string name:string uid:string user:user | pid uid cpid
    """,
    "device": """
        name:string type:string type_id!:integer=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,99 uid:string | ip uid
        name hostname instance_uid interface_uid interface_name
    """,
    "policy": """
        is_applied:boolean name:string uid:string version:string | name type uid
    """,
    "authorization": """
        decision:string policy:policy
    """,
    "observable": """
        name:string type:string type_id!:integer=0,2,4,7,13,45,99 value:string
    """,
}

PROFILES: Final = {"security_control": {"action", "action_id", "authorizations", "disposition", "disposition_id",
                                        "is_alert", "policy"}, "host": {"actor", "device"}}  # fmt: skip
_ATTRIBUTE: Final = re.compile(r"(\w+)(!?):(\w+)(\[\])?(?:=([\d,]+))?")
_PLAIN: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,), "url": (str,), "ip": (str,), "integer": (int,), "long": (int,), "timestamp": (int,),
    "boolean": (bool,), "object": (dict,),
}  # fmt: skip


def problems(event: Mapping[str, Any]) -> list[str]:
    """What is wrong with an event; empty: nothing."""
    return list(_event(event))


def _event(event: Mapping[str, Any]) -> Iterator[str]:
    uid = event.get("class_uid")
    if uid not in CLASSES:
        yield f"class {uid}"
        return
    own, one_of = _read(CLASSES[uid])
    attributes = {**_read(CLASSES[0])[0], **own}
    yield from _check("", event, attributes, one_of)
    if event["category_uid"] != uid // 1000:
        yield "category_uid"
    if event["type_uid"] != uid * 100 + event["activity_id"]:
        yield "type_uid"
    for profile, names in PROFILES.items():
        used = {each for each in names & event.keys() if each not in own}
        if used and profile not in event["metadata"]["profiles"]:
            yield f"{sorted(used)} need the profile {profile}"
    for each in event.get("observables", ()):
        found: Any = event
        for part in each["name"].split("."):
            found = found[part]
        if not str(found).startswith(each["value"]):
            yield f"observable {each['name']} is not what stands there"


def _check(path: str, found: Mapping[str, Any], attributes: Mapping[str, Any], one_of: list[str]) -> Iterator[str]:
    if one_of and not any(found.get(name) for name in one_of):
        yield f"{path or 'event'} has none of {one_of}"
    for name, (required, *_) in attributes.items():
        if required and found.get(name) is None:
            yield f"{path}{name} is missing"
    for name, value in found.items():
        if name not in attributes:
            yield f"{path}{name} is no attribute"
            continue
        _, kind, many, numbers = attributes[name]
        for each in value if many else [value]:
            yield from _value(f"{path}{name}", each, kind, numbers)


def _value(path: str, value: Any, kind: str, numbers: set[int]) -> Iterator[str]:
    if kind in OBJECTS:
        if not isinstance(value, dict):
            yield f"{path} is no object"
            return
        yield from _check(f"{path}.", value, *_read(OBJECTS[kind]))
        return
    if not isinstance(value, _PLAIN[kind]) or (isinstance(value, bool) and kind != "boolean"):
        yield f"{path} is no {kind}: {value!r}"
    elif kind == "ip":
        try:
            ipaddress.ip_address(value)
        except ValueError:
            yield f"{path} is no address: {value!r}"
    elif kind == "timestamp" and not 10**12 < value < 10**13:
        yield f"{path} is not in milliseconds: {value}"
    elif numbers and value not in numbers:
        yield f"{path} is {value}, not one of {sorted(numbers)}"


def _read(text: str) -> tuple[dict[str, Any], list[str]]:
    attributes, _, one_of = text.partition(" |")
    found = {
        name: (bool(required), kind, bool(many), {int(each) for each in numbers.split(",") if each})
        for name, required, kind, many, numbers in _ATTRIBUTE.findall(attributes)
    }
    return found, one_of.split()
