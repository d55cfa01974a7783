"""The JSON Schema of answers, written from the model: `python -m ostiary_policy.answer_schema`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ostiary_policy.answer import MAX_BYTES, VERSION, ExplainAnswer

ID = f"https://ostiary.dev/schemas/answer-v{VERSION}.json"


def schema() -> str:
    """The schema of a DETAIL and of `ostiary explain --json`, which has `explanation` beside it."""
    made = ExplainAnswer.model_json_schema(mode="serialization", by_alias=True)
    # Readers of version 1 must take keys that a later gateway adds: the schema says what is there, not what may not be.
    for part in (made, *made["$defs"].values()):
        part.pop("additionalProperties", None)
    made["required"].remove("explanation")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": ID}
    made["description"] = (
        f"The DETAIL of a refusal (one line, at most {MAX_BYTES} bytes), and the output of `ostiary explain --json`."
    )
    return json.dumps({**head, **made}, ensure_ascii=False, indent=2) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the schema, or with --check say whether it is as it would be written."""
    parser = argparse.ArgumentParser(prog="python -m ostiary_policy.answer_schema", description=__doc__)
    parser.add_argument("path", nargs="?", type=Path, default=Path("docs/answer.schema.json"))
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the schema has drifted")
    options = parser.parse_args(arguments)
    if options.check:
        if options.path.is_file() and options.path.read_text(encoding="utf-8") == schema():
            return 0
        sys.stderr.write(f"{options.path} is not what answer.py says; run: python -m ostiary_policy.answer_schema\n")
        return 1
    options.path.write_text(schema(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
