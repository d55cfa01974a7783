"""What becomes of questions, told to those who must know: the log, the metrics, the record."""

from __future__ import annotations

from ostiary_gateway.approvals.store import Transition
from ostiary_gateway.audit.event import ApprovalStep, Recorder
from ostiary_gateway.counters import Counters
from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

_WORDS = {
    "Asked": "approval asked for",
    "Answered": "approval answered",
    "Approved": "approval granted",
    "Denied": "approval denied",
    "Expired": "approval expired",
    "Consumed": "approval used",
}


class Telling:
    """Called with each transition that this process made. SQL and reasons are not logged: the record has them."""

    def __init__(self, counters: Counters, recorder: Recorder) -> None:
        self._counters = counters
        self._recorder = recorder

    def __call__(self, transition: Transition) -> None:
        request, step = transition.request, transition.step
        metadata, spec = request.metadata, request.spec
        connection = f"{metadata.namespace}/{spec.connection_ref.name}"
        if step != "Answered":
            self._counters.approval(connection, step)
        rule = spec.policies[0]
        more = {"by": transition.by, "verdict": transition.verdict, "acting": transition.acting}
        log.info(
            _WORDS[step], approval=metadata.name, connection=connection, requester=spec.requester.username,
            rule=f"{rule.namespace}/{rule.name}#{rule.rule}", **{key: value for key, value in more.items() if value},
        )  # fmt: skip
        self._recorder.approval(
            ApprovalStep(
                at=transition.at, name=f"{metadata.namespace}/{metadata.name}", step=step, connection=connection,
                hash=spec.request.hash, requester=spec.requester.username, session=spec.requester.session,
                by=transition.by, verdict=transition.verdict, reason=transition.reason, acting=transition.acting,
            )
        )  # fmt: skip
