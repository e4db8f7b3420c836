"""What the tests of constructs share: a stack to put one into, and what it synthesises to."""

from __future__ import annotations

import atexit
import json
from dataclasses import dataclass
from functools import cache
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import pytest

import daybreak.infra  # noqa: F401 - before the CDK: names the Node that it runs in, or the machine's is taken

# isort: split
from cdktn import TerraformStack, Testing
from cdktn_provider_aws.provider import AwsProvider

from daybreak.infra.site import Names, Site


@dataclass(frozen=True)
class Bench:
    """A stack with nothing in it, and a site for props."""

    stack: TerraformStack
    site: Site

    def synth(self) -> dict[str, Any]:
        """The stack as Terraform JSON."""
        result: dict[str, Any] = json.loads(Testing.synth(self.stack, True))
        return result

    def resources(self, kind: str) -> list[dict[str, Any]]:
        """All resources of ``kind`` (``aws_kms_key``)."""
        return list(self.synth().get("resource", {}).get(kind, {}).values())

    def only(self, kind: str) -> dict[str, Any]:
        """The one resource of ``kind``."""
        (found,) = self.resources(kind)
        return found


@pytest.fixture
def bench() -> Bench:
    """A fresh stack; see ``fresh``."""
    return fresh()


@cache
def scratch() -> str:
    """Where the CDK makes its directories, which it never removes; gone with this process."""
    directory = mkdtemp(prefix="daybreak-cdk-")
    atexit.register(rmtree, directory, ignore_errors=True)
    return directory


def fresh() -> Bench:
    """A stack in which nothing is a real account's."""
    stack = TerraformStack(Testing.app(outdir=scratch()), "test")
    AwsProvider(stack, "aws", region="eu-central-1")
    site = Site(
        names=Names("payments", "test"),
        account_id="123456789012",
        region="eu-central-1",
        partition="aws",
        protected=False,
        log_days=30,
    )
    return Bench(stack, site)
