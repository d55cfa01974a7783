"""Signatures, against the example of the specification and a verification that is written out on its own."""

from __future__ import annotations

import time

import pytest
from support.receivers import OTHER_SECRET, SECRET, Came, verify

from ostiary_notify.signing import SecretProblem, key_of, sign


def signed(*secrets: str, body: bytes = b'{"a":1}') -> Came:
    now = int(time.time())
    return Came("/", dict(sign([key_of(each) for each in secrets], "msg_1", now, body)), body, now)


def test_the_example_of_the_specification() -> None:
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    assert sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_while_a_secret_is_changed_both_verify() -> None:
    came = signed(OTHER_SECRET, SECRET)
    verify(came, SECRET)
    verify(came, OTHER_SECRET)
    with pytest.raises(AssertionError, match="no signature is of this secret"):
        verify(signed(OTHER_SECRET), SECRET)


@pytest.mark.parametrize("part", ["webhook-id", "webhook-timestamp", "body"])
def test_whatever_is_changed_does_not_verify(part: str) -> None:
    came = signed(SECRET)
    headers = dict(came.headers)
    if part == "body":
        changed = Came("/", headers, came.body + b" ", came.at)
    else:
        headers[part] = "1" + headers[part] if part == "webhook-id" else str(int(headers[part]) + 1)
        changed = Came("/", headers, came.body, came.at)
    with pytest.raises(AssertionError, match="no signature"):
        verify(changed)


@pytest.mark.parametrize("secret", ["hunter2-hunter2", "whsec_!!!", "whsec_c2hvcnQ=", "whsec_" + "A" * 200, ""])
def test_a_secret_that_is_none_is_not_said(secret: str) -> None:
    with pytest.raises(SecretProblem) as problem:
        key_of(secret)
    assert not secret or secret not in str(problem.value)
