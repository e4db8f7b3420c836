"""Whether the stack may go: not while a migration needs it, not while applications write to its cluster, and not
while its vault holds backups."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daybreak.aws.errors import translated
from daybreak.errors import AdapterError, Refused
from daybreak.model import Phase, Side

if TYPE_CHECKING:
    from boto3.session import Session

_AT_REST = frozenset({Phase.PLANNED, Phase.FINISHED, Phase.ABORTED})


@dataclass(frozen=True, slots=True)
class Standing:
    """What one witness says of the migration; ``where`` names the witness. ``switched``: the target has been the
    primary, whoever is now; False where the witness cannot say."""

    where: str
    phase: str
    primary: str
    switched: bool = False

    @property
    def native(self) -> bool:
        """Whether DMS is out of use: both directions are PostgreSQL's own from the first cutover on, also after a
        rollback."""
        return self.switched or self.primary == Side.TARGET

    @property
    def reason(self) -> str:
        """Why the stack is needed; empty where it isn't."""
        if self.primary == Side.TARGET:
            return f"the cluster takes the application's writes ({self.where})"
        if self.phase not in _AT_REST:
            return f"the migration is {self.phase} ({self.where})"
        return ""


def published(parameter: str, session: Session) -> Standing | None:
    """What the state parameter in SSM says; None where there is none, so nothing was deployed.

    Raises Refused where it can't be read: then nobody knows."""
    ssm = session.client("ssm")
    try:
        with translated(f"reading {parameter}"):
            try:
                text = ssm.get_parameter(Name=parameter, WithDecryption=True)["Parameter"]["Value"]
            except ssm.exceptions.ParameterNotFound:
                return None
        found = json.loads(text)
        return Standing(f"SSM parameter {parameter}", str(found["phase"]), str(found["primary"]))
    except AdapterError as error:
        raise Refused(f"Nobody can tell whether the stack is in use: {error.message}", error.hint) from error
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(
            f"Nobody can tell whether the stack is in use: {parameter} is not what Daybreak wrote ({error}).",
            "See `daybreak status`.",
        ) from error


def backups(vault: str, session: Session) -> int:
    """How many recovery points the backup vault holds. Raises Refused where AWS does not tell."""
    client = session.client("backup")
    try:
        with translated(f"counting the backups in {vault}"):
            try:
                pages = client.get_paginator("list_recovery_points_by_backup_vault").paginate(BackupVaultName=vault)
                return sum(len(page["RecoveryPoints"]) for page in pages)
            except client.exceptions.ResourceNotFoundException:
                return 0
    except AdapterError as error:
        raise Refused(f"Nobody can tell whether the vault may go: {error.message}", error.hint) from error


def even(verb: str, name: str) -> str:
    """The command that goes on all the same."""
    return f"`daybreak infra {verb} --even-while-active {name}`"


def refuse_while_needed(standings: Iterable[Standing], verb: str, name: str) -> None:
    """Raise Refused where the migration ``name`` or the application still needs what is stored in the stack."""
    reasons = [one.reason for one in standings if one.reason]
    if reasons:
        raise Refused(
            f"The stack is in use: {'; '.join(reasons)}.",
            "Roll back and `daybreak abort`, or finish and move the cluster out of Daybreak's hands, first. "
            f"To go on all the same, and lose data: {even(verb, name)}.",
        )


def refuse_while_streamed(standings: Sequence[Standing], verb: str, name: str, blocked: Sequence[str] = ()) -> None:
    """Raise Refused where DMS still loads or streams for the migration ``name``. ``blocked``: the addresses of what
    AWS refuses to change while its task runs."""
    reasons = [one.reason for one in standings if one.reason]
    if not reasons or any(one.native for one in standings):
        return
    what, first = "this would stop it or lose its place", ""
    if blocked:
        what = f"AWS would refuse {', '.join(blocked)} while it runs"
        first = (
            "Stop it first, and go on all the same: `aws dms stop-replication-task --replication-task-arn ARN`. Or: "
        )
    raise Refused(
        f"The task of DMS is in use, and {what}: {'; '.join(reasons)}.",
        f"{first}Wait for the first cutover, which ends the use of DMS, or `daybreak abort`. A task that is only "
        "stopped or changed goes on where it was with `daybreak start` afterwards. "
        f"To go on all the same: {even(verb, name)}.",
    )
