"""What every construct is told: names, account, region, and how careful to be."""

from __future__ import annotations

from dataclasses import dataclass

from daybreak.config.names import Names

__all__ = ["Names", "Site"]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a stack is deployed. ``account_id``, ``region`` and ``partition`` are Terraform expressions."""

    names: Names
    account_id: str
    region: str
    partition: str
    protected: bool
    log_days: int

    def arn(self, service: str, resource: str) -> str:
        """The ARN of ``resource`` (``function:NAME``) of ``service`` in this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account_id}:{resource}"

    def service(self, name: str) -> str:
        """The principal of an AWS service that is named per region (``logs``, ``dms``)."""
        return f"{name}.{self.region}.amazonaws.com"
