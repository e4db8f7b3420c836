"""``daybreak rehearse``: a whole migration on two throwaway servers, with live progress and a summary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from threading import Event, Thread
from typing import Annotated

import typer
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from daybreak.entry import words
from daybreak.entry.command import FAILED, command
from daybreak.entry.options import DEFAULT_CONFIG, Json
from daybreak.errors import ConfigError
from daybreak.lab.rehearsal import Options, Rehearsal
from daybreak.lab.result import RehearsalResult

_REFRESH_PER_SECOND = 4


class RouterName(StrEnum):
    """The routers that can be rehearsed."""

    MULTIHOST = "multihost"
    PGBOUNCER = "pgbouncer"


class EngineName(StrEnum):
    """The engines that can be rehearsed."""

    NATIVE = "native"
    DMS = "dms"


# With both, a rehearsal on emulated AWS takes about six minutes on two cores.
_AWS_SCALES = {EngineName.NATIVE: 0.1, EngineName.DMS: 0.05}


def rehearse(
    source_version: Annotated[int, typer.Option(help="PostgreSQL major version of the source.")] = 17,
    target_version: Annotated[
        int | None, typer.Option(help="That of the target; 18, with --aws 17: it must speak TLS there.")
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(min=0.01, help="Size of the history; 1 is 100 MB and the default, with --aws 0.05 (native 0.1)."),
    ] = None,
    clients: Annotated[
        int | None, typer.Option(min=1, max=32, help="Clients that write all the while; 8, with --aws 4.")
    ] = None,
    router: Annotated[RouterName, typer.Option(help="How the clients find the primary.")] = RouterName.MULTIHOST,
    engine: Annotated[
        EngineName | None, typer.Option(help="What loads and streams; native, with --aws dms (a stand-in for it).")
    ] = None,
    aws: Annotated[bool, typer.Option("--aws", help="With the AWS side, on emulated AWS; needs Terraform.")] = False,
    json: Json = False,
) -> None:
    """Rehearse a migration on this machine: two servers, clients that write, cutover, rollback, cutover.

    Reads no configuration and touches nothing outside a temporary directory. Exit status 1 where a write
    was lost or doubled, where a comparison was not clean, where reads did not go where they were sent, or where no
    event woke the function."""
    with command("rehearse", DEFAULT_CONFIG, json) as run:
        if engine is EngineName.DMS and not aws:
            raise ConfigError("DMS is rehearsed on emulated AWS only.", "Add --aws.")
        engine = engine or (EngineName.DMS if aws else EngineName.NATIVE)
        options = Options(
            source_version,
            target_version or (17 if aws else 18),
            scale or (_AWS_SCALES[engine] if aws else 1.0),
            clients or (4 if aws else 8),
            router.value,
            engine.value,
        )
        rehearsal = _on_aws(options) if aws else Rehearsal(options)
        with _watching(rehearsal, run.err):
            result = rehearsal.run()
        run.show(result, *_summary(result))
        if not result.passed:
            raise typer.Exit(FAILED)


def _on_aws(options: Options) -> Rehearsal:
    try:
        from daybreak.lab.rehearsal_aws import AwsRehearsal
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed.", "In a checkout: `make rehearse-aws` installs what this needs."
        ) from None
    return AwsRehearsal(replace(options, router="route53"))


class _Board:
    """The programme with the present stage, the pace of the clients and the lag."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = rehearsal
        self._at, self._writes, self._pace = time.monotonic(), 0, 0.0

    def __rich__(self) -> Group:
        self._measure()
        grid = Table.grid(padding=(0, 1))
        now = time.monotonic()
        for stage in tuple(self._rehearsal.stages):
            spent = words.duration((stage.ended or now) - stage.began)
            doing = "" if stage.ended else self._rehearsal.doing
            mark = Text("✓", "green") if stage.ended else Text("…", "yellow")
            grid.add_row(mark, Text(stage.title), Text(spent, "dim"), Text(doing, "dim", no_wrap=True))
        lag = f"{self._rehearsal.lag_ms[-1]:.0f} ms" if self._rehearsal.lag_ms else words.UNKNOWN
        pace = f"{words.count(self._writes)} writes acknowledged, {self._pace:,.0f}/s, lag {lag}"
        return Group(grid, Text(pace, "bold"))

    def _measure(self) -> None:
        now, writes = time.monotonic(), self._rehearsal.acknowledged
        if now - self._at >= 1 / _REFRESH_PER_SECOND:
            self._pace = (writes - self._writes) / (now - self._at)
            self._at, self._writes = now, writes


@contextmanager
def _watching(rehearsal: Rehearsal, console: Console) -> Iterator[None]:
    """Show the board on a terminal; elsewhere print a line for every stage."""
    if console.is_terminal:
        with Live(_Board(rehearsal), console=console, refresh_per_second=_REFRESH_PER_SECOND):
            yield
        return
    over = Event()
    printer = Thread(target=_print_stages, args=(rehearsal, console, over))
    printer.start()
    try:
        yield
    finally:
        over.set()
        printer.join()


def _print_stages(rehearsal: Rehearsal, console: Console, over: Event) -> None:
    printed = 0
    while True:
        last = over.wait(1 / _REFRESH_PER_SECOND)
        ended = [stage for stage in tuple(rehearsal.stages) if stage.ended]
        for stage in ended[printed:]:
            written = words.count(rehearsal.acknowledged)
            console.print(Text(f"{stage.title}: {words.duration(stage.ended - stage.began)} ({written} writes so far)"))
        printed = len(ended)
        if last:
            return


def _summary(result: RehearsalResult) -> tuple[Table, Table, Text]:
    facts = Table(box=box.SIMPLE, show_header=False)
    load, lag, ledger, checked = result.full_load, result.lag_ms, result.ledger, result.verify
    servers = f"PostgreSQL {result.source_version} to {result.target_version}"
    facts.add_row("servers", f"{servers}, router {result.router}, engine {result.engine}")
    facts.add_row("full load", f"{words.count(load.rows)} rows, {words.size(load.bytes)} in {load.seconds:.1f} s")
    facts.add_row("lag", f"p50 {lag.p50:g} ms, p99 {lag.p99:g} ms")
    facts.add_row(
        "verified",
        f"{checked.tables} tables, {words.count(checked.rows)} rows, {len(checked.differences)} differences",
    )
    facts.add_row(
        "writes",
        f"{words.count(ledger.acknowledged)} acknowledged, {ledger.lost} lost, {ledger.duplicated} duplicated,"
        f" {ledger.ambiguous} ambiguous",
    )
    moves = Table("switchover to", "write pause", "gap seen by clients", "client errors", "equal at the fence")
    moves.box = box.SIMPLE
    for move in result.switchovers:
        moves.add_row(
            move.to,
            f"{move.write_pause_ms:g} ms",
            f"{move.client_gap_ms:g} ms",
            str(move.client_errors),
            "yes" if move.certified else "NO",
        )
    if result.shares:
        told = ", ".join(f"{share.weight}: {share.percent:g}" for share in result.shares)
        facts.add_row("reads by DNS", f"percent of {result.shares[0].answers} answers at each weight: {told}")
    if result.events:
        facts.add_row("woken by events", ", ".join(f"{sender} {count}" for sender, count in result.events.items()))
    verdict = Text("Passed", "bold green") if result.passed else Text("FAILED", "bold red")
    return facts, moves, verdict.append(f" in {result.seconds:.0f} s.", "default")
