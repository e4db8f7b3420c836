"""What ``daybreak infra`` prints with ``--json``; docs/commands.md describes every field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daybreak.infra.plan import Plan


@dataclass(frozen=True, slots=True)
class SynthReport:
    """Where the stack was written."""

    directory: str


@dataclass(frozen=True, slots=True)
class ChangeReport:
    """One resource of a plan. ``loses``: something stored, or DMS's place in the stream, would be gone.
    ``stops``: a DMS task is stopped."""

    action: str
    address: str
    why: str
    loses: bool
    stops: bool


@dataclass(frozen=True, slots=True)
class InfraPlanReport:
    """What Terraform would do: how many resources of each kind, and which."""

    create: int
    update: int
    replace: int
    destroy: int
    changes: tuple[ChangeReport, ...]

    @classmethod
    def of(cls, plan: Plan) -> InfraPlanReport:
        """``plan`` in this form."""
        changes = tuple(ChangeReport(one.action, one.address, one.why, one.loses, one.stops) for one in plan.changes)
        return cls(plan.count("create"), plan.count("update"), plan.count("replace"), plan.count("destroy"), changes)


@dataclass(frozen=True, slots=True)
class DeployReport:
    """What was applied, and the stack's outputs."""

    plan: InfraPlanReport
    outputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DestroyReport:
    """How many resources were destroyed, and the keys (by their ids) that snapshots and backups still need."""

    destroyed: int
    kept_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutputsReport:
    """The configuration, the keys written into it, and all outputs."""

    config: str
    written: tuple[str, ...]
    outputs: dict[str, Any]
