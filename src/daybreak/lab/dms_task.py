"""A stand-in for AWS DMS: carries out a replication task of the emulated API between two real servers.

It watches the task through the API (``moto_tasks`` is what makes moto's tasks wait for it), loads, stops, streams
when it is resumed, reports statistics and progress, and hands metrics and events to whoever asked for them. It can
be told to fail, to lag, to apply out of order, to suspend a table and to find rows different. A person stops it
through the API, like the real one. A lost connection is tried again without end."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from daybreak.lab.decoding import Change, parse
from daybreak.lab.dms_copy import Copier, TableCount, selected
from daybreak.lab.walsender import WalSender
from daybreak.model import Lsn, TableName

if TYPE_CHECKING:
    from types_boto3_cloudwatch import CloudWatchClient
    from types_boto3_dms import DatabaseMigrationServiceClient

_STARTED, _FAILED, _STOPPED = (
    ("REPLICATION_TASK_STARTED", "DMS-EVENT-0069", "StateChange"),
    ("REPLICATION_TASK_FAILED", "DMS-EVENT-0078", "Failure"),
    ("REPLICATION_TASK_STOPPED", "DMS-EVENT-0079", "StateChange"),
)
_AGAIN_SECONDS = 0.3
_LOG = logging.getLogger(__name__)


@dataclass
class Faults:
    """What goes wrong; may be changed while the task runs.

    ``fail``: it fails with this message. ``lag_seconds``: every transaction is applied so late. ``out_of_order``:
    of any two transactions the later one is applied first. ``suspend``: these tables get no more changes.
    ``mismatched``: validation finds these different. ``silent``: it publishes no metrics."""

    fail: str = ""
    lag_seconds: float = 0.0
    out_of_order: bool = False
    suspend: frozenset[TableName] = frozenset()
    mismatched: frozenset[TableName] = frozenset()
    silent: bool = False


@dataclass(frozen=True, slots=True)
class _Transaction:
    """What one transaction of the source did, and where and when it ended."""

    changes: tuple[Change, ...]
    at: Lsn
    committed: datetime


class _Failed(Exception):
    """The task fails; ``str()`` is its message."""


@dataclass
class DmsStandIn:
    """Carries out the task ``identifier``. ``source`` and ``target`` are connection strings of DMS's role;
    ``latency`` is told CDCLatencySource and CDCLatencyTarget in seconds, ``event`` every event as EventBridge
    delivers it. A context manager: it works while it is open."""

    client: DatabaseMigrationServiceClient
    identifier: str
    source: str
    target: str
    latency: Callable[[float, float], None] = lambda _source, _target: None
    event: Callable[[dict[str, Any]], None] = lambda _event: None
    faults: Faults = field(default_factory=Faults)
    poll_seconds: float = 0.2
    counts: dict[TableName, TableCount] = field(default_factory=dict)
    _run: int = 0
    _percent: int = 0
    _behind_seconds: float = 0.0
    _worker: threading.Thread | None = None
    _outcome: tuple[str, str, str] | None = None

    def __enter__(self) -> DmsStandIn:
        self._closed, self._halt = threading.Event(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="dms stand-in", daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._closed.set()
        self._halt.set()
        for thread in (self._watcher, self._worker):
            if thread is not None:
                thread.join(timeout=10)

    # --- the API

    def _watch(self) -> None:
        while not self._closed.wait(self.poll_seconds):
            try:
                self._look()
            except Exception:
                _LOG.warning("the stand-in for DMS looks again", exc_info=True)

    def _look(self) -> None:
        found = self.client.describe_replication_tasks(
            Filters=[{"Name": "replication-task-id", "Values": [self.identifier]}], WithoutSettings=False
        )["ReplicationTasks"]
        if not found:
            self._halt.set()
            return
        task = found[0]
        data = json.loads(task.get("TaskData", "{}"))
        if task["Status"] == "starting" and data["run"] != self._run:
            self._begin(task["ReplicationTaskArn"], data, task["TableMappings"], task["ReplicationTaskSettings"])
        elif task["Status"] == "stopping":
            self._halt.set()
        if self._worker is not None:
            self._report(task["ReplicationTaskArn"])

    def _begin(self, arn: str, data: dict[str, Any], mappings: str, settings: str) -> None:
        self._halt.set()
        if self._worker is not None:
            self._worker.join()
        self._run, self._outcome = data["run"], None
        self._halt.clear()
        stops = json.loads(settings or "{}").get("FullLoadSettings", {}).get("StopTaskCachedChangesNotApplied", False)
        self._worker = threading.Thread(
            target=self._work, args=(data["asked"], mappings, stops), name="dms task", daemon=True
        )
        self._worker.start()
        self._tell(arn, _STARTED, f"Replication task started, with flag, {data['asked']}")

    def _report(self, arn: str) -> None:
        outcome = self._outcome
        status, reason, failure = outcome or ("running", "", "")
        for table in self.counts.values():
            if table.name in self.faults.mismatched:
                table.validation = "Mismatched records"
        report = {
            "run": self._run,
            "status": status,
            "stop_reason": reason,
            "failure": failure,
            "percent": self._percent,
            "tables": [table.as_statistics() for table in self.counts.values()],
        }
        self.client.modify_replication_task(ReplicationTaskArn=arn, TaskData=json.dumps(report))
        if outcome is None:
            if not self.faults.silent:
                self.latency(0.0, self._behind_seconds)
            return
        self._worker = None
        self._tell(arn, _FAILED if status == "failed" else _STOPPED, failure or f"Replication task stopped. {reason}")

    def _tell(self, arn: str, kind: tuple[str, str, str], message: str) -> None:
        name, number, category = kind
        detail = {"eventType": name, "eventId": number, "detailMessage": message, "category": category}
        self.event(
            {
                "source": "aws.dms",
                "detail-type": "DMS Replication Task State Change",
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "resources": [arn],
                "detail": {**detail, "type": "REPLICATION_TASK"},
            }
        )

    # --- the work

    def _work(self, asked: str, mappings: str, stops_after_load: bool) -> None:
        try:
            if asked != "resume-processing":
                self._again_while_lost(lambda: self._load(mappings))
                if stops_after_load:
                    self._outcome = ("stopped", "Stop Reason STOPPED_AFTER_FULL_LOAD", "")
                    return
            self._again_while_lost(self._stream)
            self._outcome = ("stopped", "Stop Reason NORMAL", "")
        except (_Failed, psycopg.Error) as error:
            self._outcome = ("failed", "Stop Reason FATAL_ERROR", f"Last Error  {error} Stop Reason FATAL_ERROR")

    def _again_while_lost(self, act: Callable[[], None]) -> None:
        while not self._halt.is_set():
            try:
                return act()
            except psycopg.OperationalError:
                self._halt.wait(_AGAIN_SECONDS)
        return None

    def _check(self) -> None:
        if self.faults.fail:
            raise _Failed(self.faults.fail)

    def _load(self, mappings: str) -> None:
        with contextlib.closing(Copier.connect(self.identifier, self.source, self.target)) as copier:
            tables = selected(copier.source, mappings)
            self._percent, self.counts = 0, {table: TableCount(table) for table in tables}
            with psycopg.connect(self.source, autocommit=True, replication="database") as session:
                snapshot = self._make_slot(copier, session)
                for table, rows in copier.load(tables, snapshot):
                    self._check()
                    self.counts[table].state, self.counts[table].loaded = "Table completed", rows
                    done = sum(count.state == "Table completed" for count in self.counts.values())
                    self._percent = 100 * done // len(tables)
                    if self._halt.is_set():
                        return
            self._percent = 100

    def _make_slot(self, copier: Copier, session: psycopg.Connection[Any]) -> str:
        """A new slot, and the snapshot that it starts from."""
        there = copier.source.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", [self._name(copier)])
        if there.fetchone() is not None:
            copier.source.execute("SELECT pg_drop_replication_slot(%s)", [self._name(copier)])
        create = sql.SQL("CREATE_REPLICATION_SLOT {} LOGICAL test_decoding EXPORT_SNAPSHOT")
        row = session.execute(create.format(sql.Identifier(self._name(copier)))).fetchone()
        assert row is not None, "CREATE_REPLICATION_SLOT returns one row"
        return str(row[2])

    def _name(self, copier: Copier) -> str:
        row = copier.source.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
        assert row is not None
        return f"{self.identifier.replace('-', '_')[:40]}_{int(str(row[0])):08d}"

    def _stream(self) -> None:
        with contextlib.closing(Copier.connect(self.identifier, self.source, self.target)) as copier:
            sender = WalSender(self.source, self._name(copier))
            with contextlib.closing(sender):
                for table in self.counts.values():
                    table.validation = "Validated"
                self._apply_all(copier, sender)

    def _apply_all(self, copier: Copier, sender: WalSender) -> None:
        position, waiting, changes = copier.position(), list[_Transaction](), list[Change]()
        while not self._halt.is_set():
            self._check()
            message = sender.read(self.poll_seconds)
            if message is None:
                self._behind_seconds = 0.0
            elif message.text.startswith("BEGIN"):
                changes = []
            elif message.text.startswith("COMMIT"):
                if message.at > position:
                    waiting.append(_Transaction(tuple(changes), message.at, _committed(message.text)))
            else:
                changes.append(parse(message.text))
            if waiting and (message is None or len(waiting) > self.faults.out_of_order):
                for transaction in reversed(waiting):
                    self._apply(copier, transaction)
                sender.confirm(waiting[-1].at)
                waiting = []

    def _apply(self, copier: Copier, transaction: _Transaction) -> None:
        while (left := self.faults.lag_seconds - self._age(transaction)) > 0 and not self._halt.is_set():
            self._check()
            self._behind_seconds = self._age(transaction)
            time.sleep(min(left, 0.05))
        if self._halt.is_set():
            return
        wanted = []
        for change in transaction.changes:
            tables = tuple(table for table in change.tables if self._takes(copier, table))
            if tables:
                wanted.append(replace(change, tables=tables))
        copier.apply(wanted, transaction.at)
        for change in wanted:
            self._count(change)
        self._behind_seconds = self._age(transaction)

    def _age(self, transaction: _Transaction) -> float:
        return max(0.0, (datetime.now(UTC) - transaction.committed).total_seconds())

    def _takes(self, copier: Copier, table: TableName) -> bool:
        count = self.counts.get(table)
        if count is not None and table in self.faults.suspend and count.state != "Table error":
            count.state = "Table error"
            copier.suspend(table, "told to")
        return count is not None and count.state != "Table error"

    def _count(self, change: Change) -> None:
        for table in change.tables:
            count = self.counts[table]
            count.inserts += change.kind == "INSERT"
            count.updates += change.kind == "UPDATE"
            count.deletes += change.kind == "DELETE"


def _committed(text: str) -> datetime:
    """When, from ``COMMIT (at 2026-01-01 00:00:00.123456+00)``."""
    moment = text.removeprefix("COMMIT (at ").removesuffix(")")
    return datetime.fromisoformat(moment)


def to_cloudwatch(client: CloudWatchClient, instance: str, resource: str) -> Callable[[float, float], None]:
    """A ``latency`` that publishes as DMS does: ``instance`` and ``resource`` are the metrics' dimensions."""
    dimensions = [
        {"Name": "ReplicationInstanceIdentifier", "Value": instance},
        {"Name": "ReplicationTaskIdentifier", "Value": resource},
    ]

    def publish(source: float, target: float) -> None:
        values = (("CDCLatencySource", source), ("CDCLatencyTarget", target))
        client.put_metric_data(
            Namespace="AWS/DMS",
            MetricData=[{"MetricName": name, "Dimensions": dimensions, "Value": value} for name, value in values],  # type: ignore[typeddict-item]
        )

    return publish
