"""What keeps ``daybreak infra`` from taking away what is needed: every witness of the migration that can be asked,
and what AWS would refuse half-way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from daybreak.aws.errors import error_code
from daybreak.config import load_settings, state_url
from daybreak.config.names import Names
from daybreak.entry.infra_site import Site
from daybreak.errors import AdapterError, ConfigError, Refused
from daybreak.model import MigrationRecord, Side
from daybreak.postgres.control import Control, read_control
from daybreak.postgres.objects import inventory
from daybreak.postgres.server import Server
from daybreak.store.dynamodb import DynamoStateStore
from daybreak.store.sqlite import SqliteStateStore
from daybreak.wiring import server

if TYPE_CHECKING:
    from daybreak.infra.guard import Standing
    from daybreak.infra.plan import Change, Plan
    from daybreak.infra.terraform import Terraform

_TABLE = "dynamodb://"
_UNPROTECT = {
    "aws_rds_cluster": "rds modify-db-cluster --db-cluster-identifier {id} --no-deletion-protection",
    "aws_dynamodb_table": "dynamodb update-table --table-name {id} --no-deletion-protection-enabled",
}


@dataclass(frozen=True)
class _Record:
    """The record, None where there is none; ``shared`` where everybody who leads the migration writes it there, so
    that none means that it was never begun."""

    where: str
    found: MigrationRecord | None
    shared: bool


def refuse_destroy(site: Site, plan: Plan) -> None:
    """Raise Refused where the stack is in use, or where nobody can tell and ``plan`` takes what may hold data."""
    from daybreak.infra.guard import refuse_while_needed

    refuse_while_needed(_witnesses(site, "destroy", plan), "destroy", site.name)


def refuse_deploy(site: Site, plan: Plan) -> None:
    """The same where ``plan`` of a deploy loses something stored, stops DMS, loses its place in the stream, or fails
    because its task runs."""
    from daybreak.infra.guard import refuse_while_needed, refuse_while_streamed

    if any(not one.of_dms for one in plan.losses):
        refuse_while_needed(_witnesses(site, "deploy", plan), "deploy", site.name)
    elif plan.losses or plan.stopped or plan.blocked:
        blocked = [one.address for one in plan.blocked]
        refuse_while_streamed(_witnesses(site, "deploy", plan), "deploy", site.name, blocked)


def refuse_half_way(site: Site, terraform: Terraform, plan: Plan) -> None:
    """Raise Refused for what AWS would refuse to delete with the rest already gone: what is protected against
    deletion, and a vault that holds backups."""
    _refuse_protected(site, terraform, plan)
    for vault in plan.vaults:
        _refuse_full(site, terraform, vault)


def _refuse_protected(site: Site, terraform: Terraform, plan: Plan) -> None:
    if not plan.protected:
        return
    keep = [
        f"terraform -chdir={terraform.directory} untaint {one.address}"
        for one in plan.protected
        if one.half_made and one.action == "replace"
    ]
    region = site.settings.aws.region
    drop = [f"aws {_UNPROTECT[one.kind].format(id=one.id)} --region {region}" for one in plan.protected]
    hints = [
        f"{what}: {', '.join(f'`{one}`' for one in commands)}."
        for what, commands in (("If it has come up well meanwhile, keep it", keep), ("If it shall go", drop))
        if commands
    ]
    raise Refused(
        f"Protected against deletion: {', '.join(one.address for one in plan.protected)}. Nothing was done.",
        " ".join([*hints, "Then this command again."]),
    )


def _refuse_full(site: Site, terraform: Terraform, vault: Change) -> None:
    from daybreak.infra.guard import backups

    count = backups(vault.id, site.session())
    if not count:
        return
    of = f"--backup-vault-name {vault.id} --region {site.settings.aws.region}"
    raise Refused(
        f"The vault {vault.id} holds {count} backups, and AWS deletes no vault that does. Nothing was done.",
        f"To keep vault and backups, have Terraform leave them: `terraform -chdir={terraform.directory} state rm "
        f"{vault.address}`. To delete the backups: `aws backup list-recovery-points-by-backup-vault {of} --query "
        f"'RecoveryPoints[].RecoveryPointArn' --output text | xargs -n1 aws backup delete-recovery-point {of} "
        "--recovery-point-arn`. Then this command again.",
    )


def _witnesses(site: Site, verb: str, plan: Plan) -> list[Standing]:
    """What the published state, the record and both servers say. Raises Refused where ``plan`` takes what may hold
    data, and nobody has told who can know: the published state is a copy, and only a migration that is led on AWS
    keeps it."""
    from daybreak.infra.guard import Standing, even, published

    record = _record(site)
    told: list[Standing | None] = [
        published(Names(site.name, site.settings.aws.environment).path("state"), site.session())
    ]
    if record.found is not None:
        told.append(Standing(record.where, record.found.phase, record.found.primary, _switched(record.found)))
    answered: set[Side] = set()
    silent: list[str] = []
    for side in Side:
        try:
            told.append(_on_server(_server(site, side), alone=record.found is None))
            answered.add(side)
        except (AdapterError, ConfigError) as error:
            silent.append(error.message)
    found = [one for one in told if one is not None]
    known = record.found is not None or record.shared or any(one.reason for one in found)
    # After `finish --unfence` the source remembers nothing, while the target has all the data.
    enough = Side.TARGET in answered if plan.cluster else bool(answered)
    if any(one.holds for one in plan.changes) and not known and not enough:
        raise Refused(
            f"Nobody can tell whether the stack is in use: no record at {record.where}, and no server answers that "
            f"would know: {'; '.join(silent)}.",
            "Run this where the migration is led from, or let this machine reach the target, with the role and the "
            f"password of [target]. To go on all the same, and lose data: {even(verb, site.name)}.",
        )
    return found


def _record(site: Site) -> _Record:
    url = state_url(site.settings, site.run.config)
    if not url.startswith(_TABLE):
        store = SqliteStateStore.from_url(url)
        return _Record(str(store.path), store.load(site.name), shared=False)
    table = DynamoStateStore(site.session().client("dynamodb"), url.removeprefix(_TABLE))
    try:
        return _Record(url, table.load(site.name), shared=True)
    except AdapterError as error:
        # Not made yet, or gone already: that says nothing of the rest.
        if error.__cause__ is not None and error_code(error.__cause__) == "ResourceNotFoundException":
            return _Record(url, None, shared=False)
        raise Refused(f"Nobody can tell whether the stack is in use: {error.message}", error.hint) from error


def _server(site: Site, side: Side) -> Server:
    """Raises ConfigError or AdapterError where the configuration does not lead to the target, or not yet."""
    if side is Side.TARGET:
        return server(load_settings(site.run.config), side)
    source = site.settings.source
    return Server(side, site.name, source.parameters(), source.peer_parameters())


def _on_server(one: Server, alone: bool) -> Standing | None:
    """What ``one`` knows of the migration. ``alone``: there is no record, so that anything in the target tells of a
    migration that was led from elsewhere and may have been finished."""
    from daybreak.infra.guard import Standing

    with one.session("infra") as connection:
        row = read_control(connection, one.migration)
        held = inventory(connection) if row is None and alone and one.side is Side.TARGET else ()
    if row is not None:
        # The commit of the first cutover closed the source; only opening the target came after it.
        switched = (row.closed_by if one.side is Side.SOURCE else row.opened_by) > 0
        return Standing(f"control row on the {one.side}", "under way", _primary(row), switched)
    return Standing(f"{len(held)} objects on the target", "led from elsewhere", Side.SOURCE) if held else None


def _switched(record: MigrationRecord) -> bool:
    """Whether the record shows that the target has been the primary: attempts that backed out are counted, too, so
    their number says nothing. Nobody rolls back what was not switched."""
    last = record.last_switchover
    return last is not None and (last.settled or last.to is Side.SOURCE)


def _primary(row: Control) -> Side:
    """Of two switchovers the later one has the higher number; the target is closed before the first one, too."""
    closed = row.closed_by > row.opened_by
    if row.side is Side.SOURCE:
        return Side.TARGET if closed else Side.SOURCE
    return Side.TARGET if row.opened_by > row.closed_by else Side.SOURCE
