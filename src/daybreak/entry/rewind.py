"""``daybreak rewind``: the target as it was at some moment, or as it is now, in a cluster of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

import tenacity
import typer
from rich.console import RenderableType
from rich.text import Text

from daybreak import rewind as planning
from daybreak.aws.rds import Cluster, Instance, Rds
from daybreak.aws.session import open_session
from daybreak.config import InfraSettings, load_infra_settings
from daybreak.config.names import CLUSTER, Names
from daybreak.entry import render
from daybreak.entry.command import Command, command
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json, Yes
from daybreak.errors import ConfigError, PermanentError, TransientError
from daybreak.rewind import RewindPlan, Step

To = Annotated[str, typer.Option("--to", metavar="TIME", help="As it was then: 2026-07-29T12:00:00Z, with its zone.")]
Clone = Annotated[bool, typer.Option("--clone", help="As it is now, as a copy-on-write clone.")]
Execute = Annotated[bool, typer.Option("--execute", help="Do it; without this only the plan is printed.")]

_RESUME = "What was begun goes on at AWS. Run the same command again to go on, or without --execute to look."
_POLL_SECONDS = 15.0
_Found = TypeVar("_Found", Cluster, Instance)


@dataclass(frozen=True, slots=True)
class RewindReport:
    """The plan, and how far it is: ``status`` and ``instance_status`` are AWS's, null for what isn't there.

    ``expected_seconds`` is always null: AWS gives no such number."""

    kind: Literal["restore", "clone"]
    cluster: str
    to: datetime | None
    earliest: datetime | None
    latest: datetime | None
    new_cluster: str
    new_instance: str
    expected_seconds: None
    lost: str
    stays: str
    warnings: tuple[str, ...]
    steps: tuple[Step, ...]
    afterwards: tuple[Step, ...]
    status: str | None
    instance_status: str | None
    endpoint: str | None
    created_at: datetime | None


def rewind(
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
    to: To = "",
    clone: Clone = False,
    execute: Execute = False,
    yes: Yes = False,
) -> None:
    """Print how to get the target as it was at a moment of the last days; --execute does it.

    Aurora PostgreSQL can't be turned back in place: this makes a new cluster beside it. The one that is
    there, its streams and its clients are not touched."""
    with command("rewind", config, as_json, _RESUME if execute else "") as run:
        if bool(to) == clone:
            raise ConfigError("Say either --to TIME or --clone.", "See `daybreak rewind --help`.")
        at = None if clone else planning.moment(to)
        settings = load_infra_settings(config)
        rds = Rds(open_session(settings.aws.region).client("rds"))
        plan = _planned(rds, settings, at)
        before = _report(rds, plan)
        if not execute:
            run.show(before, *_shown(before))
            return
        if not _finished(before):
            if not run.json:
                run.show(before, *_shown(before))
            run.confirm(f"make {before.new_cluster}, which is paid for until it is removed", yes, settings.name)
            _carry_out(run, rds, plan)
        report = _report(rds, plan)
        run.show(report, *_ready(report))


def _planned(rds: Rds, settings: InfraSettings, at: datetime | None) -> RewindPlan:
    names = Names(settings.name, settings.aws.environment)
    cluster = rds.cluster(names.of(CLUSTER))
    if cluster is None:
        raise PermanentError(
            f"There is no cluster {names.of(CLUSTER)} in {settings.aws.region}.",
            "Check name, aws.environment and aws.region; `daybreak infra deploy` makes it.",
        )
    writer = rds.instance(cluster.writer) if cluster.writer else None
    if writer is None:
        raise PermanentError(
            f"Cluster {cluster.identifier} has no server whose class a new one could have.",
            "Run `daybreak infra deploy`, which makes its servers.",
        )
    now = datetime.now(UTC)
    # A restore that was begun goes on, also where its time has left the backups since.
    if at is not None and rds.cluster(planning.new_name(names, at)) is None:
        planning.check_window(cluster, at, now)
    return planning.plan(cluster, writer, names, settings.aws.region, at, now)


def _finished(report: RewindReport) -> bool:
    return report.instance_status is not None and planning.is_ready(report.instance_status)


def _carry_out(run: Command, rds: Rds, plan: RewindPlan) -> None:
    """Make the cluster and its server, or go on with them; says on standard error how they stand."""
    wanted, server = plan.restoration, plan.instance

    def tell(text: str) -> None:
        run.err.print(Text(text), soft_wrap=True)

    if rds.cluster(wanted.identifier) is None:
        rds.restore(wanted)
        tell(f"{wanted.identifier}: begun. Ctrl-C does not end it; the same command goes on with it.")
    _await(lambda: rds.cluster(wanted.identifier), wanted.identifier, tell)
    if rds.instance(server.identifier) is None:
        rds.create_instance(server)
    _await(lambda: rds.instance(server.identifier), server.identifier, tell)


def _await(look: Callable[[], _Found | None], name: str, tell: Callable[[str], None]) -> None:
    """Look until what ``look`` finds is ready, as long as that takes; raises PermanentError where it never will."""
    seen = ""

    def ready() -> bool:
        nonlocal seen
        found = look()
        status = found.status if found else "gone" if seen else "asked for"
        if status != seen:
            tell(f"{name}: {status}")
        if status == "gone" or planning.has_failed(status):
            raise PermanentError(
                f"{name} is {status}: AWS will not complete it.",
                "See its events in the RDS console; remove it, then run the same command again.",
            )
        seen = status
        return planning.is_ready(status)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda done: not done) | tenacity.retry_if_exception_type(TransientError),
        wait=tenacity.wait_fixed(_POLL_SECONDS),
        sleep=time.sleep,
    )
    retrying(ready)


def _report(rds: Rds, plan: RewindPlan) -> RewindReport:
    made = rds.cluster(plan.restoration.identifier)
    server = rds.instance(plan.instance.identifier)
    return RewindReport(
        kind=plan.kind,
        cluster=plan.cluster,
        to=plan.to,
        earliest=plan.earliest,
        latest=plan.latest,
        new_cluster=plan.restoration.identifier,
        new_instance=plan.instance.identifier,
        expected_seconds=None,
        lost=plan.lost,
        stays=plan.stays,
        warnings=plan.warnings,
        steps=plan.steps,
        afterwards=plan.afterwards,
        status=made.status if made else None,
        instance_status=server.status if server else None,
        endpoint=made.endpoint if made else None,
        created_at=made.created if made else None,
    )


def _shown(report: RewindReport) -> list[RenderableType]:
    """The whole plan. Commands are lines of their own, to be copied."""
    pairs = [
        ("cluster", report.cluster),
        ("as it was" if report.to else "as it is", planning.shown(report.to) if report.to else "now"),
        ("backups", f"{planning.shown(report.earliest)} up to {planning.shown(report.latest)}"),
        ("new cluster", report.new_cluster),
        ("so far", _so_far(report)),
        ("lost", report.lost),
        ("stays", report.stays),
        ("duration", "not known: AWS gives none"),
    ]
    warnings = [Text(f"warning: {one}", "yellow") for one in report.warnings]
    return [render.facts(pairs), *warnings, *_steps("What --execute does:", report.steps), *_afterwards(report)]


def _ready(report: RewindReport) -> list[RenderableType]:
    """What came of it."""
    what = (
        f"the state of {planning.shown(report.to)}" if report.to else f"a clone of {planning.shown(report.created_at)}"
    )
    return [f"{report.new_cluster} is ready at {report.endpoint}: {what}.", *_afterwards(report)]


def _so_far(report: RewindReport) -> str:
    if report.status is None:
        return "nothing"
    server = report.instance_status or "none yet"
    return f"{report.status}, made {planning.shown(report.created_at)}; its server: {server}"


def _afterwards(report: RewindReport) -> list[RenderableType]:
    return _steps("Afterwards, as you need:", report.afterwards)


def _steps(title: str, steps: tuple[Step, ...]) -> list[RenderableType]:
    lines: list[RenderableType] = ["", title]
    for number, step in enumerate(steps, 1):
        lines += [f"{number}. {step.what}", *(f"   {one}" for one in step.commands)]
    return lines
