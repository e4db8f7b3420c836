"""What Terraform would do, read from ``terraform show -json`` of a saved plan."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

Action = Literal["create", "update", "replace", "destroy"]

_TASK = "aws_dms_replication_task"
_VAULT = "aws_backup_vault"
_CLUSTER = "aws_rds_cluster"
_TABLE = "aws_dynamodb_table"
# Stores nothing: that is the cluster's.
_INSTANCE = "aws_rds_cluster_instance"
# What can't be had back by applying again: what is stored in these is gone with them. Of DMS that is its place
# in the stream.
_PRECIOUS = (
    _CLUSTER,
    "aws_kms_key",
    "aws_secretsmanager_secret",
    _TABLE,
    "aws_dms_replication_instance",
    _TASK,
    _VAULT,
)
# The address of ``encryption.Keys.data`` begins so; the CDK ends it with a digest.
DATA_KEY = "aws_kms_key.keys_data_"
# Those of ``secrets.Secrets``, with the name of the secret after it.
_VALUE = "aws_secretsmanager_secret_version.secrets_"
_SECRET_OF_DMS = "aws_secretsmanager_secret.secrets_dms-"
_ACTIONS: dict[tuple[str, ...], Action] = {
    ("create",): "create",
    ("update",): "update",
    ("delete",): "destroy",
    ("delete", "create"): "replace",
    ("create", "delete"): "replace",
}
_HALF_MADE = "an interrupted or failed run left it half-made"
_PROTECTION = ("deletion_protection", "deletion_protection_enabled")
_ENDPOINT = "aws_dms_endpoint"
_CERTIFICATE = "aws_dms_certificate"
# A task whose tags alone change goes on (source of the AWS provider, resourceReplicationTaskUpdate).
_ASIDE = ("tags", "tags_all")


@dataclass(frozen=True, slots=True)
class Change:
    """One resource that would change. ``id`` is AWS's, empty for a new one; ``why`` only where Terraform says
    more than that its arguments differ. ``protected``: AWS refuses to delete it; ``only_empty``: it does unless it is
    empty. ``snapshot``: one is made before it goes. ``stops``: it is stopped, and nothing starts it again.
    ``writer``: it is the instance of the cluster that takes writes. ``blocked``: AWS refuses it while a task runs."""

    action: Action
    address: str
    kind: str
    id: str
    why: str
    protected: bool
    only_empty: bool = False
    snapshot: bool = False
    stops: bool = False
    writer: bool = False
    blocked: bool = False

    @property
    def goes(self) -> bool:
        """Whether what is there now would be gone."""
        return self.action in ("replace", "destroy")

    @property
    def loses(self) -> bool:
        """Whether a database, key, secret, record, backup or DMS's place in the stream would be gone."""
        return self.goes and self.kind in _PRECIOUS

    @property
    def holds(self) -> bool:
        """Whether it goes and may hold what is known nowhere else: keys and secrets alone mean that nothing was ever
        stored under them, and what a failed run left half-made never held anything."""
        return self.goes and self.kind in (_CLUSTER, _TABLE, _VAULT) and not self.half_made

    @property
    def of_dms(self) -> bool:
        """Whether it is DMS's or one of its roles' secrets, which are needed until the first cutover only."""
        return self.kind.startswith("aws_dms_") or self.address.startswith(_SECRET_OF_DMS)

    @property
    def half_made(self) -> bool:
        """Whether a run ended before it was done, which is also why Terraform replaces it."""
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
        there = shown.get("prior_state", {}).get("values", {}).get("root_module", {}).get("resources", [])
        # Where something is destroyed and not made anew, only the state tells.
        tainted = frozenset(one["address"] for one in there if one.get("tainted"))
        changes = (_change(one, tainted) for one in shown.get("resource_changes", []))
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
        return tuple(one for one in self.changes if one.protected and one.goes)

    @property
    def vaults(self) -> tuple[Change, ...]:
        """The vaults that would go, and which AWS keeps where they hold backups, so that Terraform would fail."""
        return tuple(one for one in self.changes if one.kind == _VAULT and one.only_empty and one.goes)

    @property
    def data_key(self) -> Change | None:
        """The key of cluster, snapshots and backups, where it would go."""
        return next((one for one in self.changes if one.address.startswith(DATA_KEY) and one.goes), None)

    @property
    def snapshots(self) -> bool:
        """Whether a database would leave a snapshot."""
        return any(one.snapshot and one.goes for one in self.changes)

    @property
    def cluster(self) -> bool:
        """Whether a cluster goes that applications may have written to."""
        return any(one.kind == _CLUSTER and one.holds for one in self.changes)

    @property
    def interrupted(self) -> tuple[Change, ...]:
        """The writer of a cluster that stays: until another instance has taken over, nobody can write."""
        if any(one.kind == _CLUSTER and one.goes for one in self.changes):
            return ()
        return tuple(one for one in self.changes if one.writer and one.goes)

    @property
    def stopped(self) -> tuple[Change, ...]:
        """The DMS tasks that stay, but are stopped."""
        return tuple(one for one in self.changes if one.stops)

    @property
    def blocked(self) -> tuple[Change, ...]:
        """What AWS refuses to change while DMS's task runs, so that Terraform would fail half-way."""
        return tuple(one for one in self.changes if one.blocked)

    def writes_secret(self, what: str) -> bool:
        """Whether the value of the secret ``what`` (``dms-source``) would be written."""
        return any(one.address.startswith(f"{_VALUE}{what}-value") for one in self.changes)

    def without(self, address: str) -> Plan:
        """The plan as it is when Terraform no longer knows ``address``."""
        return replace(self, changes=tuple(one for one in self.changes if one.address != address))

    def count(self, action: Action) -> int:
        """How many resources meet with ``action``."""
        return sum(one.action == action for one in self.changes)


def _change(one: dict[str, Any], tainted: frozenset[str]) -> Change | None:
    action = _ACTIONS.get(tuple(one["change"]["actions"]))
    if action is None or one["mode"] != "managed":
        return None
    before = one["change"].get("before") or {}
    return Change(
        action,
        one["address"],
        one["type"],
        str(before.get("id", "")),
        why="" if action in ("create", "update") else _why(one, one["address"] in tainted),
        protected=any(before.get(key) is True for key in _PROTECTION),
        only_empty=before.get("force_destroy") is False,
        snapshot=before.get("skip_final_snapshot") is False,
        stops=action == "update" and one["type"] == _TASK and _differs(one["change"]),
        writer=one["type"] == _INSTANCE and before.get("writer") is True,
        blocked=_blocked(one["type"], action, one["change"]),
    )


def _blocked(kind: str, action: Action, change: dict[str, Any]) -> bool:
    """AWS answers InvalidResourceStateFault while a task that is not stopped uses it (DMS API, ModifyEndpoint;
    terraform-provider-aws, issue 27661); a certificate belongs to an endpoint."""
    if kind == _ENDPOINT:
        return action == "replace" or (action == "update" and _differs(change))
    return kind == _CERTIFICATE and action == "replace"


def _differs(change: dict[str, Any]) -> bool:
    """Whether more than tags changes; what Terraform does not know yet may."""
    before, after = (change.get(when) or {} for when in ("before", "after"))
    unknown = {key for key, value in (change.get("after_unknown") or {}).items() if value}
    names = (before.keys() | after.keys() | unknown) - set(_ASIDE)
    return any(name in unknown or before.get(name) != after.get(name) for name in names)


def _why(one: dict[str, Any], tainted: bool) -> str:
    reason = one.get("action_reason", "")
    if tainted or reason == "replace_because_tainted":
        return _HALF_MADE
    if reason == "replace_because_cannot_update":
        paths = (".".join(map(str, path)) for path in one["change"].get("replace_paths", []))
        return f"{', '.join(paths)} can't be changed in place"
    return ""
