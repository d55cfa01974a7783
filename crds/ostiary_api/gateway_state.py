"""What a gateway pod tells of itself at /state: which bundle is in force, what is wrong with it, what is reachable.

    GET http://POD_IP:9911/state              the document, with an ETag
    GET http://POD_IP:9911/state?wait=25      with If-None-Match: held until it changes, or 304 after so many seconds

The ETag covers what somebody must act on. Counts of sessions, when the upstream was last tried, and how much of the
record is under way do not change it: who waits would be woken by every login.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, StrictInt

from ostiary_api.canonical import canonical_json, sha256_hex
from ostiary_api.meta import StatusModel
from ostiary_api.units import Timestamp

STATE_PORT: Final = 9911
"""Of the address that serves /state, /livez, /readyz and /metrics in a pod."""
MAX_WAIT: Final = 60.0
"""Seconds that a request may be held at most; more is taken for this."""
PASSED_ON: Final = "/pass-on"
"""POST, from another pod of this gateway: a client's CancelRequest, for a session that may be here."""

Reach = Literal["Unknown", "Reachable", "Unreachable"]
Ships = Literal["Off", "Shipping", "Behind", "Failing"]


class StateProblem(StatusModel):
    """Something that a gateway cannot do with its bundle."""

    object: str = Field(default="", description="Kind and namespace/name; empty: the bundle as a whole.")
    field: str = Field(default="", description="Path of the field; empty: the object as a whole.")
    message: str = Field(description="What is wrong, and what to do.")


class UpstreamState(StatusModel):
    """Whether the target answers, tried without a login."""

    state: Reach = Field(default="Unknown", description="Unknown until it was tried.")
    message: str = Field(default="", description="Why it is not reachable.")
    at: Timestamp | None = Field(default=None, description="When it was last tried.")


class ConnectionState(StatusModel):
    """One Connection at this gateway."""

    namespace: str = Field(description="Namespace of the Connection.")
    name: str = Field(description="Name of the Connection.")
    listening: bool = Field(default=False, description="Whether agents can connect.")
    message: str = Field(default="", description="Why they cannot, or cannot log in.")
    sessions: StrictInt = Field(default=0, description="Sessions that are open now.")
    upstream: UpstreamState = Field(default=UpstreamState(), description="Whether the target answers.")


class ShippingState(StatusModel):
    """Whether the record reaches the store."""

    state: Ships = Field(
        default="Off",
        description="Off: there is no store. Behind: more waits than there should. Failing: what waits could not be "
        "handed over for a minute.",
    )
    message: str = Field(default="", description="Why it fails or is behind.")
    since: Timestamp | None = Field(default=None, description="Since when it is so.")
    behind_bytes: StrictInt = Field(default=0, description="Bytes of the record that the store does not have yet.")


class GatewayState(StatusModel):
    """The document at /state."""

    instance: str = Field(default="", description="Name of the pod.")
    revision: str = Field(default="", description="Revision of the bundle in force; empty: none is.")
    loaded_at: Timestamp | None = Field(default=None, description="Since when it is in force.")
    draining: bool = Field(default=False, description="Whether the gateway is about to stop.")
    problems: tuple[StateProblem, ...] = Field(
        default=(), description="What is wrong with the bundle in force, and why a newer one is not."
    )
    connections: tuple[ConnectionState, ...] = Field(default=(), description="The Connections of the bundle in force.")
    shipping: ShippingState = Field(default=ShippingState(), description="Whether the record reaches the store.")

    def etag(self) -> str:
        """The ETag (RFC 9110), with its quotes: the same as long as there is nothing to act on."""
        shown = self.model_dump(mode="json", by_alias=True)
        for connection in shown["connections"]:
            del connection["sessions"], connection["upstream"]["at"]
        del shown["shipping"]["behindBytes"]
        return f'"{sha256_hex(canonical_json(shown))[:32]}"'

    def to_json(self) -> str:
        """The document as text, every field in it."""
        return self.model_dump_json(by_alias=True)
