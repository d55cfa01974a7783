"""The generated files are those in the repository, and a drift is noticed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ostiary_api import reference
from ostiary_api.generate import crd_files, main
from ostiary_api.manifests import parse
from ostiary_api.schema import KINDS, custom_resource_definition

ROOT = Path(__file__).parents[3]
Schema = dict[str, Any]


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, item in schema.get("properties", {}).items():
        yield from nodes(item, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from nodes(schema[name], f"{path}[]")


def parts() -> list[tuple[str, Schema]]:
    """Every part of spec and status of every resource."""
    found: list[tuple[str, Schema]] = []
    for kind in KINDS:
        version = custom_resource_definition(kind)["spec"]["versions"][0]
        for name in ("spec", "status"):
            schema = version["schema"]["openAPIV3Schema"]["properties"][name]
            found += nodes(schema, f"{kind.__name__}.{name}")
    return found


def test_what_is_in_the_repository_is_what_the_models_say() -> None:
    assert main(["--check", str(ROOT / "crds")]) == 0


def test_a_drift_is_shown_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crds, docs = tmp_path / "crds", tmp_path / "docs"
    shutil.copytree(ROOT / "crds", crds, ignore=shutil.ignore_patterns("ostiary_api"))
    shutil.copytree(ROOT / "charts", tmp_path / "charts")
    docs.mkdir()
    shutil.copy(ROOT / "docs" / "resources.md", docs)
    assert main(["--check", str(crds)]) == 0
    file = crds / "connections.ostiary.dev.yaml"
    file.write_text(file.read_text().replace("maximum: 65535", "maximum: 65536"))
    page = docs / "resources.md"
    page.write_text(page.read_text().replace("# Resources\n", "# My resources\n").replace("`gwpol`", "`gwp`"))
    assert main(["--check", str(crds)]) == 1
    shown = capsys.readouterr()
    assert re.search(r"^\+ +maximum: 65535$", shown.out, re.MULTILINE)
    assert "`gwpol`" in shown.out
    assert "have drifted; run: python -m ostiary_api.generate" in shown.err
    assert main([str(crds)]) == 0
    assert main(["--check", str(crds)]) == 0
    assert page.read_text().startswith("# My resources\n"), "the introduction is kept"


def test_a_missing_file_is_a_drift(tmp_path: Path) -> None:
    assert main(["--check", str(tmp_path), "--docs", str(tmp_path / "page.md")]) == 1
    assert main([str(tmp_path), "--docs", str(tmp_path / "page.md")]) == 0
    assert main(["--check", str(tmp_path), "--docs", str(tmp_path / "page.md")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {*crd_files(), "page.md"}


def test_generated_files_are_yaml_of_the_definitions() -> None:
    for kind, text in zip(KINDS, crd_files().values(), strict=True):
        assert yaml.safe_load(text) == custom_resource_definition(kind)


@pytest.mark.parametrize(("path", "schema"), parts(), ids=[path for path, _ in parts()])
def test_every_part_is_bounded_and_structural(path: str, schema: Schema) -> None:
    assert not {"$ref", "oneOf", "allOf", "title", "const"} & schema.keys()
    if schema.get("x-kubernetes-int-or-string"):
        assert "pattern" in schema
        return
    match schema["type"]:
        case "string":
            assert "enum" in schema or "maxLength" in schema
        case "array":
            assert "maxItems" in schema
            assert schema["x-kubernetes-list-type"] in ("map", "set", "atomic")
        case "object":
            free = "additionalProperties" in schema or "x-kubernetes-preserve-unknown-fields" in schema
            assert "maxProperties" in schema or not free
            assert free or "properties" in schema or path.endswith(".impersonate")
        case "integer":
            assert "minimum" in schema
    if not path.endswith("[]"):
        assert schema.get("description")


def test_names_columns_and_status() -> None:
    short = {}
    for kind in KINDS:
        spec = custom_resource_definition(kind)["spec"]
        names, version = spec["names"], spec["versions"][0]
        assert names["categories"] == ["ostiary"]
        assert version["subresources"] == {"status": {}}
        assert version["additionalPrinterColumns"][-1]["name"] == "Age"
        short[names["plural"]] = names["shortNames"]
    assert short == {"connections": ["gwconn"], "gatewaypolicies": ["gwpol"], "approvalrequests": ["apr"]}


def test_the_example_in_the_documentation_is_taken() -> None:
    text = (ROOT / "docs" / "resources.md").read_text()
    example = text.split("```yaml\n")[1].split("```")[0]
    found = parse(example, "policies.yaml")
    assert [str(problem) for problem in found.problems] == []
    assert [*found.connections, *found.policies, *found.secrets] == [
        "default/shop",
        "default/shop",
        "default/shop-db",
        "default/planner",
    ]


def test_the_error_in_the_documentation_is_a_real_one() -> None:
    text = (ROOT / "docs" / "resources.md").read_text()
    policy = (
        "apiVersion: ostiary.dev/v1alpha1\nkind: GatewayPolicy\nmetadata: {name: shop}\nspec:\n  rules:\n"
        "  - name: a\n    action: Deny\n    expression: 'true'\n    messageExpresion: x\n"
    )
    [shown] = {str(problem) for problem in parse(policy, "policies.yaml").problems}
    assert shown in text


def test_the_reference_names_every_field() -> None:
    text = reference.page("")
    for path, schema in parts():
        for name in schema.get("properties", {}):
            assert f"| `{name}` |" in text, f"{path}.{name}"


def test_the_chart_has_the_crds_word_for_word() -> None:
    for kind in KINDS:
        template = (ROOT / "charts" / "ostiary" / "templates" / "crds" / f"{kind.plural}.yaml").read_text()
        spec = re.search(r"^spec:\n.*(?=^\{\{- end \}\}$)", template, re.DOTALL | re.MULTILINE)
        assert spec
        assert yaml.safe_load(spec[0].replace("{{ `{{` }}", "{{"))["spec"] == custom_resource_definition(kind)["spec"]
