"""Synthesis into a directory: where everything is, what stays, and that Terraform takes it for valid.

How long it takes is measured by ``benchmarks/infra_synth.py``."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import infra_world
import pytest
from infra.whole import Engine, settings
from infra.whole import synthesised as whole

from daybreak.lab.cloud import Mirror
from daybreak.lab.overlay import STACK_FILE, write_override

CONFIG = f"""\
{infra_world.CONFIG}\
controller.runtime = "python{sys.version_info.major}.{sys.version_info.minor}"
controller.architecture = "{"arm64" if os.uname().machine == "aarch64" else "x86_64"}"
"""


def synthesised(directory: Path, more: str = "") -> dict[str, Any]:
    """What ``daybreak infra synth`` writes: in a process of its own, as the CDK is one to a process."""
    (directory / "daybreak.toml").write_text(CONFIG + more)
    command = [sys.executable, "-c", "from daybreak.entry.cli import main; main()", "infra", "synth", "--json"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((Path(json.loads(done.stdout)["directory"]) / "cdk.tf.json").read_text())
    return found


@pytest.mark.full
@pytest.mark.timeout(120)
def test_a_second_synthesis_replaces_the_first_and_nothing_else(tmp_path: Path) -> None:
    stack = synthesised(tmp_path)
    base = tmp_path / ".daybreak" / "infra"
    assert stat.S_IMODE(base.stat().st_mode) == 0o700
    assert stack["terraform"]["backend"]["local"]["path"] == "../../terraform.tfstate"
    state, stale = base / "terraform.tfstate", base / "stacks" / "daybreak" / "assets" / "stale"
    state.write_text("precious")
    stale.mkdir()
    assert synthesised(tmp_path) == stack
    assert state.read_text() == "precious"
    assert not stale.exists()


def test_the_state_in_a_bucket_has_a_lock_file(tmp_path: Path) -> None:
    stack = synthesised(tmp_path, 'terraform.bucket = "states"\n')
    backend = stack["terraform"]["backend"]["s3"]
    assert (backend["bucket"], backend["use_lockfile"], backend["encrypt"]) == ("states", True, True)
    assert backend["key"] == "daybreak/payments/prod.tfstate"


@pytest.mark.parametrize("engine", ["native", "dms"])
@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_terraform_takes_the_stack_for_valid(tmp_path: Path, engine: Engine) -> None:
    """By the schema of the provider: no argument that it lacks, none missing, every reference to something."""
    (tmp_path / STACK_FILE).write_text(json.dumps(whole(tmp_path, settings(tmp_path, engine))))
    mirror = Mirror.find()
    write_override(tmp_path, mirror.version if mirror else "")

    def terraform(*arguments: str) -> dict[str, Any]:
        environment = {**os.environ, "CHECKPOINT_DISABLE": "1"}
        done = subprocess.run(
            ["terraform", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout)) if "-json" in arguments else {}

    plugins = [f"-plugin-dir={mirror.directory}"] if mirror else []
    terraform("init", "-input=false", "-backend=false", *plugins)
    report = terraform("validate", "-json")
    assert report["valid"], report
    assert report["warning_count"] == 0, report["diagnostics"]
