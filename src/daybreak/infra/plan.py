"""What Terraform would do, read from ``terraform show -json`` of a saved plan."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

Action = Literal["create", "update", "replace", "destroy"]

# What can't be had back by applying again: what is stored in these is gone with them.
_PRECIOUS = (
    "aws_rds_cluster",
    "aws_rds_cluster_instance",
    "aws_kms_key",
    "aws_secretsmanager_secret",
    "aws_dynamodb_table",
    "aws_backup_vault",
)
_ACTIONS: dict[tuple[str, ...], Action] = {
    ("create",): "create",
    ("update",): "update",
    ("delete",): "destroy",
    ("delete", "create"): "replace",
    ("create", "delete"): "replace",
}
_HALF_MADE = "an interrupted or failed run left it half-made"
_PROTECTION = ("deletion_protection", "deletion_protection_enabled")


@dataclass(frozen=True, slots=True)
class Change:
    """One resource that would change. ``id`` is AWS's, empty for a new one; ``why`` only where Terraform says
    more than that its arguments differ."""

    action: Action
    address: str
    kind: str
    id: str
    why: str
    protected: bool

    @property
    def loses(self) -> bool:
        """Whether a database, key, secret, record or backup would be gone."""
        return self.action in ("replace", "destroy") and self.kind in _PRECIOUS

    @property
    def half_made(self) -> bool:
        """Whether Terraform only replaces it because a run ended before it was done."""
        return self.why == _HALF_MADE


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes, in the order of their addresses. ``outputs`` is true where only outputs differ or also do."""

    changes: tuple[Change, ...]
    outputs: bool

    @classmethod
    def parse(cls, text: str) -> Plan:
        """The plan that ``terraform show -json`` printed as ``text`` (Terraform documentation, JSON output format)."""
        shown = json.loads(text)
        changes = (_change(one) for one in shown.get("resource_changes", []))
        outputs = any(one["actions"] != ["no-op"] for one in shown.get("output_changes", {}).values())
        return cls(tuple(sorted(filter(None, changes), key=lambda one: one.address)), outputs)

    @property
    def empty(self) -> bool:
        """Whether applying would do nothing."""
        return not self.changes and not self.outputs

    @property
    def steps(self) -> int:
        """How many resources are made, changed or removed; a replacement is two."""
        return sum(2 if one.action == "replace" else 1 for one in self.changes)

    @property
    def losses(self) -> tuple[Change, ...]:
        """The changes after which something stored is gone."""
        return tuple(one for one in self.changes if one.loses)

    @property
    def protected(self) -> tuple[Change, ...]:
        """What would go but is protected against deletion, so that Terraform would fail half-way."""
        return tuple(one for one in self.changes if one.protected and one.action in ("replace", "destroy"))

    def count(self, action: Action) -> int:
        """How many resources meet with ``action``."""
        return sum(one.action == action for one in self.changes)


def _change(one: dict[str, Any]) -> Change | None:
    action = _ACTIONS.get(tuple(one["change"]["actions"]))
    if action is None or one["mode"] != "managed":
        return None
    before = one["change"].get("before") or {}
    why = "" if action in ("create", "update") else _why(one)
    protected = any(before.get(key) is True for key in _PROTECTION)
    return Change(action, one["address"], one["type"], str(before.get("id", "")), why, protected)


def _why(one: dict[str, Any]) -> str:
    reason = one.get("action_reason", "")
    if reason == "replace_because_tainted":
        return _HALF_MADE
    if reason == "replace_because_cannot_update":
        paths = (".".join(map(str, path)) for path in one["change"].get("replace_paths", []))
        return f"{', '.join(paths)} can't be changed in place"
    return ""
