"""Every reason that a condition of a Connection or a GatewayPolicy can have, what it means, and what to do.

The table in docs/conditions.md is generated from here: `python -m ostiary_operator.conditions_reference`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ACCEPTED = "Accepted"
INVALID = "Invalid"
PROTOCOL_NOT_SERVED = "ProtocolNotServed"
PORT_CONFLICT = "PortConflict"
CREDENTIAL_NOT_ALLOWED = "CredentialNotAllowed"
BUNDLE_TOO_LARGE = "BundleTooLarge"
RESOLVED = "ResolvedRefs"
SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, not a secret
SECRET_NOT_USABLE = "SecretNotUsable"  # noqa: S105 - a reason, not a secret
NOT_ACCEPTED = "NotAccepted"
PROGRAMMED = "Programmed"
NAME_TAKEN = "NameTaken"
REFUSED_BY_API = "RefusedByAPI"
PODS_NOT_READY = "PodsNotReady"
LOADING = "Loading"
NOT_LISTENING = "NotListening"
REACHABLE = "Reachable"
UNREACHABLE = "Unreachable"
NOT_TRIED = "NotTried"
RECORDED = "Recorded"
STORE_NOT_REACHED = "StoreNotReached"
NOT_ALLOWED_HERE = "NotAllowedHere"
EXPRESSION_NOT_VALID = "ExpressionNotValid"
MASK_NOT_POSSIBLE = "MaskNotPossible"
TEST_FAILED = "TestFailed"
NO_CONNECTIONS = "NoConnections"
EXPIRED = "Expired"
REFUSED_BY_GATEWAY = "RefusedByGateway"
LAST_ACCEPTED = "LastAccepted"


@dataclass(frozen=True, slots=True)
class Reason:
    """One row of the table."""

    kind: Literal["Connection", "GatewayPolicy"]
    condition: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    meaning: str
    todo: str


_C: Literal["Connection"] = "Connection"
_P: Literal["GatewayPolicy"] = "GatewayPolicy"

REASONS: tuple[Reason, ...] = (
    Reason(_C, "Accepted", "True", ACCEPTED, "The Connection is valid, and its gateway serves it.", "Nothing."),
    Reason(
        _C,
        "Accepted",
        "False",
        INVALID,
        "What is stored does not follow the schema; it may be older than it. It is not served.",
        "Apply a corrected Connection. The message names the fields.",
    ),
    Reason(
        _C,
        "Accepted",
        "False",
        PROTOCOL_NOT_SERVED,
        "This version has no gateway for the protocol.",
        "Choose one that the message names, or a newer version.",
    ),
    Reason(
        _C,
        "Accepted",
        "False",
        PORT_CONFLICT,
        "An older Connection of the same gateway has the port, or the gateway needs it itself.",
        "Choose another `spec.listener.port`, or another `spec.gateway.name`.",
    ),
    Reason(
        _C,
        "Accepted",
        "False",
        CREDENTIAL_NOT_ALLOWED,
        "It names a ServiceAccount of a gateway, or of the system namespace: agents would act as Ostiary itself.",
        "Make a ServiceAccount for the agents, give it the rights that they need, and name that.",
    ),
    Reason(
        _C,
        "ResolvedRefs",
        "True",
        RESOLVED,
        "All Secrets that it names are there, with what is needed in them.",
        "Nothing.",
    ),
    Reason(
        _C,
        "ResolvedRefs",
        "False",
        SECRET_NOT_FOUND,
        "A Secret that it names is not in its namespace.",
        "Create the Secret, or correct the name. Agents can log in once it is there.",
    ),
    Reason(
        _C,
        "ResolvedRefs",
        "False",
        SECRET_NOT_USABLE,
        "A Secret is there, and lacks a key or holds something that cannot be used. The gateway says so: the operator "
        "never reads Secrets.",
        "Correct the Secret. The message names it, and the key.",
    ),
    Reason(_C, "ResolvedRefs", "Unknown", NOT_ACCEPTED, "It is not accepted, so nobody looks.", "See Accepted."),
    Reason(
        _C,
        "Programmed",
        "True",
        PROGRAMMED,
        "Every ready pod of the gateway has loaded the newest bundle, and agents can connect.",
        "Nothing.",
    ),
    Reason(_C, "Programmed", "False", NOT_ACCEPTED, "It is not accepted, so it is not served.", "See Accepted."),
    Reason(
        _C,
        "Programmed",
        "False",
        NAME_TAKEN,
        "An object that the operator must make is there already, and somebody else made it. It is left as it is.",
        "Delete or rename that object, or rename the Connection (or its gateway).",
    ),
    Reason(
        _C,
        "Programmed",
        "False",
        REFUSED_BY_API,
        "The API server refused an object of the gateway: a quota, an admission policy, a right that is missing.",
        "Do what the API server's message asks for. It is tried again by itself.",
    ),
    Reason(
        _C,
        "Programmed",
        "False",
        BUNDLE_TOO_LARGE,
        "The gateway's bundle does not fit into ConfigMaps. The last one goes on being served.",
        "Give some Connections another `spec.gateway.name`, or make policies shorter.",
    ),
    Reason(
        _C,
        "Programmed",
        "False",
        PODS_NOT_READY,
        "No pod of the gateway is ready.",
        "See the message, and `kubectl describe pod`. A new gateway needs some seconds.",
    ),
    Reason(
        _C,
        "Programmed",
        "False",
        LOADING,
        "Some ready pods have not loaded the newest bundle yet. They go on with the one they have.",
        "Wait a second. If it stays, see the message: it names the pods and what they say.",
    ),
    Reason(
        _C,
        "Programmed",
        "False",
        NOT_LISTENING,
        "A pod has loaded the bundle, and agents cannot connect there.",
        "See the message: it is what the gateway says.",
    ),
    Reason(_C, "UpstreamReachable", "True", REACHABLE, "The target answers every pod that has tried it.", "Nothing."),
    Reason(
        _C,
        "UpstreamReachable",
        "False",
        UNREACHABLE,
        "The target does not answer a pod, or not as it should.",
        "Look at `spec.upstream`, DNS, network policies, the target's certificate. The message is the gateway's.",
    ),
    Reason(
        _C,
        "UpstreamReachable",
        "Unknown",
        NOT_TRIED,
        "No ready pod has tried the target yet.",
        "Wait, or see Programmed.",
    ),
    Reason(
        _C,
        "Recorded",
        "True",
        RECORDED,
        "Every ready pod sends its record to the store. Without a store there is no such condition.",
        "Nothing.",
    ),
    Reason(
        _C,
        "Recorded",
        "False",
        STORE_NOT_REACHED,
        "A pod could not hand over its record for a minute. It keeps it, and with no room left it refuses requests.",
        "Look at the store's pods and their log. The message is the gateway's.",
    ),
    Reason(
        _C,
        "Recorded",
        "Unknown",
        NOT_TRIED,
        "No ready pod has told of the store yet.",
        "Wait, or see Programmed.",
    ),
    Reason(_P, "Accepted", "True", ACCEPTED, "It compiles, and its tests pass. This revision is in force.", "Nothing."),
    Reason(
        _P,
        "Accepted",
        "False",
        INVALID,
        "What is stored does not follow the schema; it may be older than it.",
        "Apply a corrected policy. `status.expressions` names the fields.",
    ),
    Reason(
        _P,
        "Accepted",
        "False",
        NOT_ALLOWED_HERE,
        "A field is only for policies of the system namespace, or does not go with another field.",
        "Do what the message says, or move the policy.",
    ),
    Reason(
        _P,
        "Accepted",
        "False",
        EXPRESSION_NOT_VALID,
        "A CEL expression has a wrong type, name or syntax.",
        "`status.expressions` says which, with line and column. `ostiary lint` says the same on your machine.",
    ),
    Reason(
        _P,
        "Accepted",
        "False",
        SECRET_NOT_FOUND,
        "The Secret with the key of a pseudonym is not in the policy's namespace.",
        "Create it, or correct `keyRef`.",
    ),
    Reason(
        _P,
        "Accepted",
        "False",
        MASK_NOT_POSSIBLE,
        "A mask could not be applied, or would hide nothing.",
        "Do what the message says.",
    ),
    Reason(
        _P,
        "Accepted",
        "False",
        TEST_FAILED,
        "A case of `spec.tests` has another outcome than it expects.",
        "Correct the rule, or the test. `ostiary test` runs them on your machine.",
    ),
    Reason(
        _P,
        "Programmed",
        "True",
        PROGRAMMED,
        "Every gateway that it reaches has loaded the newest revision.",
        "Nothing.",
    ),
    Reason(
        _P,
        "Programmed",
        "False",
        NOT_ACCEPTED,
        "It never was accepted: gateways deny whatever it matches.",
        "See Accepted.",
    ),
    Reason(
        _P,
        "Programmed",
        "False",
        LAST_ACCEPTED,
        "The newest revision is not accepted; the last accepted one is in force.",
        "See Accepted.",
    ),
    Reason(
        _P,
        "Programmed",
        "False",
        NO_CONNECTIONS,
        "It is for no Connection that is served.",
        "Compare `spec.match` with the labels of the Connections and their protocols.",
    ),
    Reason(
        _P,
        "Programmed",
        "False",
        LOADING,
        "Some gateways have not loaded it yet, or have no ready pod.",
        "Wait a second. If it stays, see the Connections of the gateways that the message names.",
    ),
    Reason(
        _P,
        "Programmed",
        "False",
        REFUSED_BY_GATEWAY,
        "A gateway cannot use it, for what the operator does not see: the key of a pseudonym is missing or too short. "
        "The gateway goes on with the revision that it has, or denies whatever the policy matches.",
        "Do what the message says: it is what the gateway says.",
    ),
    Reason(
        _P,
        "Programmed",
        "False",
        EXPIRED,
        "`spec.notAfter` has passed: the policy is not in force any more.",
        "Delete it, or give it a later time.",
    ),
)
