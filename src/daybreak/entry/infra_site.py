"""What the commands of ``daybreak infra`` work with: the configuration, AWS, and Terraform, followed while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daybreak.aws.session import open_session
from daybreak.config import InfraSettings
from daybreak.entry import render
from daybreak.entry.command import Command
from daybreak.entry.terraform_progress import following
from daybreak.errors import Finding, PreflightFailed

if TYPE_CHECKING:
    from boto3.session import Session

    from daybreak.infra.plan import Plan
    from daybreak.infra.terraform import Terraform


@dataclass(frozen=True)
class Site:
    """What every command works with; the stack is synthesised when it is first needed."""

    run: Command
    settings: InfraSettings

    @property
    def directory(self) -> Path:
        """Where everything is written."""
        return self.run.config.resolve().parent / self.settings.aws.terraform.directory

    @property
    def name(self) -> str:
        """What people type to confirm."""
        return self.settings.name

    def session(self) -> Session:
        """AWS, as boto3 finds its credentials."""
        return open_session(self.settings.aws.region)

    def synthesise(self) -> Path:
        """Write the stack; returns Terraform's directory."""
        from daybreak.infra.app import synthesise

        with self.run.err.status("Synthesising the stack ..."):
            return synthesise(self.settings, self.directory)

    def terraform(self, variables: dict[str, str], synthesised: Path) -> Terraform:
        """Terraform, initialised."""
        from daybreak.infra.terraform import Terraform

        made = Terraform(synthesised, variables)
        with following(self.run.err, made, "Preparing Terraform ..."):
            made.init()
        return made

    def plan(self, terraform: Terraform, destroy: bool = False) -> Plan:
        """Terraform's plan."""
        with following(self.run.err, terraform, "Comparing with AWS ..."):
            return terraform.plan(destroy)

    def forget(self, terraform: Terraform, address: str) -> None:
        """Leave ``address`` in AWS and out of the state."""
        with following(self.run.err, terraform, f"Keeping {address} ..."):
            terraform.forget(address)

    def apply(self, terraform: Terraform, plan: Plan) -> None:
        """Do what ``plan`` says."""
        with following(self.run.err, terraform, "Applying ..."):
            terraform.apply(plan)

    def check(self, *looks: Callable[[], tuple[Finding, ...]]) -> None:
        """Print what is found, and raise PreflightFailed where something blocks."""
        for look in looks:
            found = look()
            blockers = tuple(one for one in found if one.severity == "blocker")
            if blockers:
                raise PreflightFailed(blockers)
            if found:
                self.run.err.print(render.findings(found))
