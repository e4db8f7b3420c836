"""The emulators answer on loopback only and end with their owner; what is laid over a stack for them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
import psutil

from daybreak.lab.overlay import EMULATED_DMS, OVERRIDE_FILE, STACK_FILE, write_override

REGION = "eu-central-1"


def test_they_answer_on_loopback_and_end_with_a_killed_owner(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    script = f"""
import json, pathlib, time
from daybreak.lab.aws import emulated_aws
with emulated_aws() as aws:
    pathlib.Path({str(answer)!r}).write_text(json.dumps(aws.environment()))
    time.sleep(60)
"""
    # A killed owner can't remove what it had there.
    owner = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(tmp_path)})
    try:
        while not (answer.exists() and answer.read_text()):
            assert owner.poll() is None
            time.sleep(0.1)
        environment = json.loads(answer.read_text())
        children = psutil.Process(owner.pid).children(recursive=True)
        listening = {c.laddr.ip for child in children for c in child.net_connections() if c.status == "LISTEN"}
        assert listening == {"127.0.0.1"}
        client = boto3.client(
            "sts", region_name=REGION, endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"], aws_secret_access_key="emulated",
        )  # fmt: skip
        assert client.get_caller_identity()["Account"] == environment["AWS_ACCESS_KEY_ID"]
    finally:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_the_override_changes_what_emulators_need_and_nothing_else(tmp_path: Path) -> None:
    rules = {
        "task": {"name": "a", "event_pattern": json.dumps({"source": ["aws.dms"], "resources": ["${x.arn}"]})},
        "cluster": {"name": "b", "event_pattern": json.dumps({"source": ["aws.rds"]})},
        "schedule": {"name": "c", "schedule_expression": "rate(1 minute)"},
    }
    stack: dict[str, Any] = {
        "resource": {
            "aws_cloudwatch_event_rule": rules,
            "aws_lambda_function_event_invoke_config": {"queue": {"maximum_retry_attempts": 0}},
        },
        "terraform": {"backend": {"local": {}}, "required_providers": {"aws": {"version": "6.0.0"}}},
    }
    (tmp_path / STACK_FILE).write_text(json.dumps(stack))
    write_override(tmp_path)
    override = json.loads((tmp_path / OVERRIDE_FILE).read_text())
    assert override["terraform"] == {}
    pattern = override["resource"]["aws_cloudwatch_event_rule"]["task"]["event_pattern"]
    assert json.loads(pattern) == {"source": [EMULATED_DMS], "resources": ["${x.arn}"]}
    assert list(override["resource"]["aws_cloudwatch_event_rule"]) == ["task"]
    queue = override["resource"]["aws_lambda_function_event_invoke_config"]["queue"]
    assert queue == {"maximum_retry_attempts": 2}, "a refused start is an attempt there"
    stack["terraform"]["backend"] = {"s3": {"bucket": "b", "use_lockfile": True}}
    (tmp_path / STACK_FILE).write_text(json.dumps(stack))
    write_override(tmp_path, "5.100.0")
    changed = json.loads((tmp_path / OVERRIDE_FILE).read_text())["terraform"]
    assert changed["required_providers"]["aws"]["version"] == "5.100.0"
    assert changed["backend"] == {"s3": {"bucket": "b", "use_lockfile": True, "use_path_style": True}}
