"""`python -m ostiary_api.generate [--check] DIR`: writes the CRDs and the reference page, or says what has drifted."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

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


def wanted(directory: Path, docs: Path) -> dict[Path, str]:
    """Path → text of every file that is generated."""
    files = {directory / name: text for name, text in crd_files().items()}
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
