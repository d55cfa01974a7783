"""`python -m ostiary_api.generate [--check] DIR`: writes the CRDs and the reference page.

And what the chart has of both. With --check it says what has drifted."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ostiary_api import admission
from ostiary_api.reference import page
from ostiary_api.schema import KINDS, custom_resource_definition

_HEADER = "# Generated from crds/ostiary_api by `python -m ostiary_api.generate`; do not edit.\n"


def crd_files() -> dict[str, str]:
    """File name → text of each CustomResourceDefinition."""
    return {
        f"{kind.plural}.ostiary.dev.yaml": _HEADER
        + yaml.safe_dump(custom_resource_definition(kind), sort_keys=False, width=120, allow_unicode=True)
        for kind in KINDS
    }


_OPERATOR = "OPERATOR"


class _Dumper(yaml.SafeDumper):
    """CEL of several lines is written as it is read."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def admission_template() -> str:
    """The admission policies as a template of the chart, which knows the operator's user name."""
    text = yaml.dump_all(
        admission.manifests(_OPERATOR), Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True
    )
    return _HEADER + text.replace(f"'{_OPERATOR}'", """'{{ include "ostiary.operator.username" . }}'""")


_TEMPLATE_HEAD = """\
{{- /* Generated from crds/ostiary_api by `python -m ostiary_api.generate`; do not edit. */ -}}
{{- if .Values.crds.install }}
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: %s
  labels: {{- include "ostiary.labels" . | nindent 4 }}
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""


def crd_templates() -> dict[str, str]:
    """File name → text of each CustomResourceDefinition as a template of the chart."""
    return {f"{kind.plural}.yaml": _crd_template(custom_resource_definition(kind)) for kind in KINDS}


def _crd_template(crd: dict[str, Any]) -> str:
    spec: str = yaml.safe_dump({"spec": crd["spec"]}, sort_keys=False, width=120, allow_unicode=True)
    # What Helm would take for its own: an expression may hold {{.
    spec = spec.replace("{{", "{{ `{{` }}")
    return f"{_TEMPLATE_HEAD % crd['metadata']['name']}{spec}{{{{- end }}}}\n"


def wanted(directory: Path, docs: Path) -> dict[Path, str]:
    """Path → text of every file that is generated."""
    files = {directory / name: text for name, text in crd_files().items()}
    templates = directory.resolve().parent / "charts" / "ostiary" / "templates"
    files |= {templates / "crds" / name: text for name, text in crd_templates().items()}
    files[templates / "admission.yaml"] = admission_template()
    files[docs] = page(_read(docs) or "# Resources\n")
    return files


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; with --check 1 if a file differs from what would be written."""
    parser = argparse.ArgumentParser(prog="python -m ostiary_api.generate", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR", help="where the CRDs are (crds)")
    parser.add_argument("--docs", type=Path, help="the reference page (DIR/../docs/resources.md)")
    parser.add_argument("--check", action="store_true", help="write nothing; show what would change, and exit with 1")
    options = parser.parse_args(arguments)
    directory: Path = options.directory
    docs: Path = options.docs or directory.resolve().parent / "docs" / "resources.md"
    drifted = False
    for path, text in wanted(directory, docs).items():
        found = _read(path)
        if found == text:
            continue
        drifted = True
        if options.check:
            sys.stdout.writelines(
                difflib.unified_diff(
                    found.splitlines(keepends=True), text.splitlines(keepends=True), str(path), f"{path} (generated)"
                )
            )
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if options.check and drifted:
        sys.stderr.write(f"generated files have drifted; run: python -m ostiary_api.generate {directory}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
