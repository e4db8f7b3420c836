"""What has to differ in a synthesised stack for emulators: an override file of Terraform's beside it.

The stack itself knows nothing of emulators; where they answer is in the environment (``EmulatedAws``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STACK_FILE = "cdk.tf.json"
OVERRIDE_FILE = "daybreak_override.tf.json"
EMULATED_DMS = "daybreak.emulated.dms"
"""The source of DMS's events in an emulated account: ministack lets nobody but AWS send as ``aws.dms``."""

# The emulator's own errors (HTTP 500) would be tried again for minutes.
_PROVIDER = {
    "max_retries": 2,
    "s3_use_path_style": True,
    "skip_credentials_validation": True,
    "skip_metadata_api_check": True,
    "skip_region_validation": True,
}


def write_override(directory: Path, provider_version: str = "") -> None:
    """Write the override file for the stack in ``directory`` (Terraform documentation, "Override Files").

    With ``provider_version`` that version of the AWS provider is taken rather than the stack's own."""
    stack = json.loads((directory / STACK_FILE).read_text())
    override: dict[str, Any] = {"terraform": {}, "provider": {"aws": [_PROVIDER]}}
    if provider_version:
        override["terraform"]["required_providers"] = {"aws": {"source": "hashicorp/aws", "version": provider_version}}
    backend = stack.get("terraform", {}).get("backend", {})
    if "s3" in backend:
        # A backend is overridden as a whole. No bucket's name can be put before an address on loopback.
        override["terraform"]["backend"] = {"s3": {**backend["s3"], "use_path_style": True}}
    emulated = _emulated(stack.get("resource", {}))
    if emulated:
        override["resource"] = emulated
    (directory / OVERRIDE_FILE).write_text(json.dumps(override, indent=2))


def _emulated(resources: dict[str, Any]) -> dict[str, Any]:
    """What differs in the stack's own resources, by kind and name."""
    rules = {
        name: {"event_pattern": rule["event_pattern"].replace("aws.dms", EMULATED_DMS)}
        for name, rule in resources.get("aws_cloudwatch_event_rule", {}).items()
        if "aws.dms" in rule.get("event_pattern", "")
    }
    # On AWS a start that was refused, because the function runs, is no attempt; ministack counts it as one.
    queues = {
        name: {"maximum_retry_attempts": 2} for name in resources.get("aws_lambda_function_event_invoke_config", {})
    }
    kinds = {"aws_cloudwatch_event_rule": rules, "aws_lambda_function_event_invoke_config": queues}
    return {kind: named for kind, named in kinds.items() if named}
