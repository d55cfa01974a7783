"""Requests over SSH as people write them, as the case of a policy test.

Three ways: a command line (`systemctl restart web`), an operation on a file (`read:/etc/hosts`, `rename:/a:/b`), or the
case itself, YAML or JSON (`{kind: forward, destination: {host: db, port: 5432}}`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from ostiary_api.cases import SSHTest
from ostiary_api.yamltree import YamlProblem, read_documents

EXAMPLE: Final = "systemctl restart web"
EXAMPLE_FILE: Final = "read:/etc/hosts"
_FIELDS: Final = frozenset(field.alias or name for name, field in SSHTest.model_fields.items())


def read_command(text: str, *, user: str = "") -> SSHTest:
    """The case of a command line, or of what is written out as one. Raises ValueError: what is wrong with it."""
    key, colon, _ = text.lstrip("{ \n\t").partition("\n")[0].partition(":")
    case = _written_out(text) if colon and key.strip("\"' ") in _FIELDS else {"kind": "exec", "command": text}
    return _made(case, user)


def read_operation(text: str, *, user: str = "") -> SSHTest:
    """The case of `OPERATION:PATH`, or `OPERATION:PATH:TARGET` for two paths. Raises ValueError."""
    operation, _, rest = text.partition(":")
    case: dict[str, Any] = {"kind": "sftp", "operation": operation.strip(), "path": rest}
    if operation in ("rename", "link", "symlink"):
        case["path"], _, case["target"] = rest.partition(":")
    return _made(case, user)


def _written_out(text: str) -> dict[str, Any]:
    try:
        found = [document.plain() for document in read_documents(text)]
    except YamlProblem as problem:
        raise ValueError(f"line {problem.line}: {problem.message}") from None
    if len(found) != 1 or not isinstance(found[0], Mapping):
        raise ValueError("a request is one object, YAML or JSON")
    return dict(found[0])


def _made(case: dict[str, Any], user: str) -> SSHTest:
    if user:
        case["user"] = user
    try:
        return SSHTest.model_validate(case)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
