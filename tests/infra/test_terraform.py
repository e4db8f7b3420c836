"""Running Terraform: plans, progress, interruption, locks, and errors that people can act on.

The real program does what can be done without a provider; recorded output stands in for rare failures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from daybreak.errors import ConfigError, PermanentError, StateConflict
from daybreak.infra.terraform import Progress, Terraform, find_terraform

SECRET = "tell-nobody"
needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")


def stack(directory: Path, **commands: str) -> Path:
    """A stack in ``directory``: for each command a resource that is made by running it."""
    steps = {
        name: {"provisioner": [{"local-exec": {"command": command, "environment": {"SECRET": "${var.password}"}}}]}
        for name, command in commands.items()
    }
    synthesised = {
        "variable": {"password": {"type": "string", "sensitive": True, "ephemeral": True}},
        "resource": {"terraform_data": steps},
        "output": {"answer": {"value": 42}},
    }
    (directory / "cdk.tf.json").write_text(json.dumps(synthesised))
    return directory


class Run(Terraform):
    """Terraform with a password, remembering what it told; whoever presses Ctrl-C presses it again at once."""

    def __init__(self, directory: Path) -> None:
        self.told: list[Progress] = []
        super().__init__(directory, {"password": SECRET}, self.hear)
        self.init()

    def hear(self, progress: Progress) -> None:
        self.told.append(progress)
        if "waiting for Terraform" in progress.text:
            signal.raise_signal(signal.SIGINT)

    @property
    def text(self) -> str:
        return "\n".join(one.text for one in self.told)


@contextmanager
def signalled_after(path: Path) -> Iterator[None]:
    """Ctrl-C once ``path`` exists."""

    def press() -> None:
        while not path.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@needs_terraform
def test_plan_apply_plan_destroy(tmp_path: Path) -> None:
    run = Run(stack(tmp_path, one=f'test "$SECRET" = {SECRET}', two="true"))
    assert run.outputs() == {}
    plan = run.plan()
    assert (plan.count("create"), plan.steps, plan.losses) == (2, 2, ())
    run.apply(plan)
    assert {(one.done, one.total) for one in run.told} == {(0, 2), (1, 2), (2, 2)}
    assert "terraform_data.one created in 0 s" in run.text
    assert run.outputs() == {"answer": 42}
    assert run.plan().empty
    for file in tmp_path.glob("*.tfstate*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert SECRET not in file.read_text()
    destroying = run.plan(destroy=True)
    assert destroying.count("destroy") == 2
    run.apply(destroying)
    assert json.loads((tmp_path / "terraform.tfstate").read_text())["resources"] == []


@needs_terraform
def test_what_is_forgotten_is_not_destroyed(tmp_path: Path) -> None:
    run = Run(stack(tmp_path, kept="true", gone="true"))
    run.apply(run.plan())
    before = run.plan(destroy=True)
    run.forget("terraform_data.kept")
    after = run.plan(destroy=True)
    assert after == before.without("terraform_data.kept")
    assert [one.address for one in after.changes] == ["terraform_data.gone"]
    run.apply(after)
    with pytest.raises(PermanentError, match=r"(?s)terraform state failed.*kept"):
        run.forget("terraform_data.kept")


@needs_terraform
def test_after_ctrl_c_the_same_commands_go_on(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    run = Run(stack(tmp_path, slow=f"test -e {begun} || {{ touch {begun}; exec sleep 60; }}"))
    plan = run.plan()
    with signalled_after(begun), pytest.raises(KeyboardInterrupt):
        run.apply(plan)
    assert run.text.count("waiting for Terraform") == 1
    rest = run.plan()
    assert [(one.action, one.address) for one in rest.changes] == [("replace", "terraform_data.slow")]
    assert "half-made" in rest.changes[0].why
    run.apply(rest)
    assert run.plan().empty


@needs_terraform
def test_a_held_lock_names_its_holder(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    run = Run(stack(tmp_path, slow=f"touch {begun}; exec sleep 60"))
    run.plan()
    rival = subprocess.Popen(
        [str(find_terraform()), f"-chdir={tmp_path}", "apply", "-input=false", "daybreak.tfplan"],
        env={**os.environ, "TF_VAR_password": SECRET}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        process_group=0,
    )  # fmt: skip
    try:
        while not begun.exists():
            time.sleep(0.05)
        with pytest.raises(StateConflict, match=r"locked by .+@.+ since 20\d\d-.*OperationTypeApply") as caught:
            run.plan()
        assert f"terraform -chdir={tmp_path} force-unlock " in caught.value.hint
    finally:
        rival.send_signal(signal.SIGINT)
        rival.wait()


@needs_terraform
def test_a_failure_names_the_resource(tmp_path: Path) -> None:
    run = Run(stack(tmp_path, bad="echo too many; exit 3", good="true"))
    with pytest.raises(PermanentError, match=r"terraform_data\.bad: local-exec provisioner error") as caught:
        run.apply(run.plan())
    assert "the same command goes on" in caught.value.hint
    assert "execution halted" not in caught.value.message
    assert SECRET not in str(caught.value)


def diagnostic(summary: str, detail: str = "", **more: Any) -> dict[str, Any]:
    return {
        "type": "diagnostic",
        "diagnostic": {"severity": "error", "summary": summary, "detail": detail, **more},
    }


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that puts a ``terraform`` into PATH which fails with the given lines."""

    def put(*lines: dict[str, Any], version: str = "1.11.4") -> Terraform:
        said = tmp_path / "said"
        said.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        program = tmp_path / "terraform"
        answer = json.dumps({"terraform_version": version})
        program.write_text(f"#!/bin/sh\nif [ $1 = version ]; then echo '{answer}'; exit; fi\ncat {said}\nexit 1\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return Terraform(tmp_path, {"password": SECRET})

    return put


def test_it_must_be_there_and_new_enough(pretend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(version="1.10.9")
    with pytest.raises(ConfigError, match=r"1\.10\.9, which is too old") as caught:
        find_terraform()
    assert "install" in caught.value.hint
    pretend(version="nonsense")
    with pytest.raises(ConfigError, match="does not tell its version"):
        find_terraform()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="not installed"):
        find_terraform()


def test_an_error_of_aws_is_short(pretend: Any) -> None:
    summary = (
        "creating RDS Cluster (x): operation error RDS: CreateDBCluster, https response error StatusCode: 400, "
        "RequestID: abc, api error DBClusterQuotaExceededFault: No more clusters"
    )
    with pytest.raises(PermanentError) as caught:
        pretend(diagnostic(summary, address="aws_rds_cluster.c"), diagnostic("execution halted")).plan()
    assert caught.value.message == (
        "Terraform failed:\n"
        "  aws_rds_cluster.c: creating RDS Cluster (x): api error DBClusterQuotaExceededFault: No more clusters"
    )


def test_a_secret_in_an_error_is_taken_out(pretend: Any) -> None:
    with pytest.raises(PermanentError) as caught:
        pretend(diagnostic(f"invalid value {SECRET}", f"it was {SECRET}")).plan()
    assert SECRET not in str(caught.value)
    assert "***" in caught.value.message


def test_a_lock_left_in_s3(pretend: Any) -> None:
    detail = (
        "Error message: operation error S3: PutObject, https response error StatusCode: 412, RequestID: a, HostID: b, "
        "api error PreconditionFailed: At least one of the pre-conditions you specified did not hold\nLock Info:\n"
        "  ID:        5417be3b-f39d\n  Path:      bucket/daybreak.tfstate\n  Operation: OperationTypePlan\n"
        "  Who:       ann@laptop\n  Version:   1.11.4\n  Created:   2026-11-22 23:46:07.914033023 +0000 UTC\n  Info:"
    )
    with pytest.raises(StateConflict, match="locked by ann@laptop since 2026-11-22 23:46:07 UTC") as caught:
        pretend(diagnostic("Error acquiring the state lock", detail)).plan()
    assert "force-unlock 5417be3b-f39d" in caught.value.hint


@pytest.mark.parametrize(
    ("summary", "word"),
    [
        ("No valid credential sources found", "aws sts get-caller-identity"),
        ("Backend configuration changed", "init -migrate-state"),
        ("Error releasing the state lock", "force-unlock 77"),
    ],
)
def test_what_to_do(pretend: Any, summary: str, word: str) -> None:
    with pytest.raises(PermanentError) as caught:
        pretend(diagnostic(summary, "Lock Info:\n  ID: 77\n")).plan()
    assert word in caught.value.hint


def test_a_lock_that_somebody_removed(pretend: Any) -> None:
    detail = "Error message: unable to retrieve file from S3: NoSuchKey\n\nTerraform acquires a lock when"
    with pytest.raises(PermanentError) as caught:
        pretend(diagnostic("Error releasing the state lock", detail)).plan()
    assert "nobody else deploys" in caught.value.hint
    assert "acquires" not in caught.value.message


def test_a_state_that_could_not_be_saved(pretend: Any, tmp_path: Path) -> None:
    (tmp_path / "errored.tfstate").touch()
    with pytest.raises(PermanentError) as caught:
        pretend(diagnostic("Failed to save state")).plan()
    assert "state push errored.tfstate" in caught.value.hint
