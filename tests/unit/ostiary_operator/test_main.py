"""The command line of the operator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from ostiary_operator.main import cli


def test_settings_that_are_wrong_end_it_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "operator.yaml"
    path.write_text("gateway: {image: x}\nresyncPeriode: 1m\n")
    for command in (["check", str(path)], ["run", "--config", str(path)]):
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 2
        assert "operator.yaml:2: resyncPeriode: is not a field here; did you mean resyncPeriod?" in done.stderr


def test_settings_that_are_right_are_told_so(tmp_path: Path) -> None:
    path = tmp_path / "operator.yaml"
    path.write_text("gateway: {image: x}\n")
    done = CliRunner().invoke(cli, ["check", str(path)])
    assert (done.exit_code, done.output) == (0, f"{path} is fine.\n")


def test_without_a_cluster_it_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "operator.yaml"
    path.write_text("gateway: {image: x}\n")
    root = Path(__file__).parents[3]
    # A process of its own: it sets up the logging of its process.
    done = subprocess.run(
        [
            sys.executable, "-m", "ostiary_operator", "run", "--config", str(path),
            "--kubeconfig", str(tmp_path / "none"),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(str(root / part) for part in ("crds", "gateway", "operator"))},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "set KUBECONFIG" in done.stderr


def test_an_address_must_be_one() -> None:
    done = CliRunner().invoke(cli, ["run", "--admin", "8080"])
    assert done.exit_code == 2
    assert "is no HOST:PORT" in done.stderr
