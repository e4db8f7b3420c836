"""moto's DMS with tasks that somebody carries out: ``dms_task`` watches them and says how they are.

moto's tasks run and stop at once and move nothing. Here a task that is started or stopped is ``starting`` or
``stopping`` until a stand-in reports, which it does by ModifyReplicationTask: the task's ``TaskData`` holds what is
asked of it (``run``, ``asked``) and what was reported. moto can also test a connection once only, and knows no
statistics."""

from __future__ import annotations

import json
from typing import Any

from moto.dms import models
from moto.dms.exceptions import InvalidResourceStateFault, ResourceNotFoundFault
from moto.dms.responses import DatabaseMigrationServiceResponse

from daybreak.lab import moto_dms

_HALTED = ("creating", "ready", "stopped", "failed")


class FakeReplicationTask(moto_dms.FakeReplicationTask):
    """A task as a stand-in reports it."""

    __module__ = models.__name__  # moto goes by the module's name

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.run_number, self.asked = 0, ""
        self.report: dict[str, Any] = {}

    def to_dict(self) -> dict[str, Any]:
        """As the API describes it."""
        shown = super().to_dict()
        data = {**self.report, "run": self.run_number, "asked": self.asked}
        stats = {**shown["ReplicationTaskStats"], "FullLoadProgressPercent": self.report.get("percent", 0)}
        failed = {"LastFailureMessage": self.report["failure"]} if self.report.get("failure") else {}
        stopped = {"StopReason": self.report["stop_reason"]} if self.report.get("stop_reason") else {}
        # The API leaves out what is not known.
        known = {key: value for key, value in shown.items() if value is not None}
        return {**known, **failed, **stopped, "ReplicationTaskStats": stats, "TaskData": json.dumps(data)}

    def start(self) -> models.FakeReplicationTask:
        """Wait for the stand-in."""
        if self.status not in _HALTED:
            raise InvalidResourceStateFault("Replication task is running")
        self.run_number += 1
        self.report = {**self.report, "failure": "", "stop_reason": ""}
        super().start()
        self.status = "starting"
        return self

    def stop(self) -> models.FakeReplicationTask:
        """Wait for the stand-in."""
        if self.status not in {"running", "starting"}:
            raise InvalidResourceStateFault("Replication task is not running")
        self.status = "stopping"
        return self


class DatabaseMigrationServiceBackend(moto_dms.DatabaseMigrationServiceBackend):
    """The backend in which connections are tested as often as one likes."""

    __module__ = models.__name__

    def test_connection(self, replication_instance_arn: str, endpoint_arn: str) -> models.FakeConnection:
        """Anew each time."""
        self.connections = [
            one
            for one in self.connections
            if (one.replication_instance_arn, one.endpoint_arn) != (replication_instance_arn, endpoint_arn)
        ]
        return super().test_connection(replication_instance_arn, endpoint_arn)


class Response(DatabaseMigrationServiceResponse):
    """The calls that a stand-in and its watchers need; ``mend`` adds them to moto's own class."""

    def start_replication_task(self) -> str:
        """moto forgets how a task is to be started."""
        asked = json.loads(self.body)
        task = self._task(asked)
        task.asked = asked["StartReplicationTaskType"]
        return json.dumps({"ReplicationTask": task.start().to_dict()})

    def modify_replication_task(self) -> str:
        """Take the stand-in's report, if it is about what was asked for last."""
        asked = json.loads(self.body)
        task, report = self._task(asked), json.loads(asked["TaskData"])
        if report["run"] == task.run_number and not (task.status == "stopping" and report["status"] == "running"):
            task.report, task.status = report, report["status"]
        return json.dumps({"ReplicationTask": task.to_dict()})

    def describe_table_statistics(self) -> str:
        """A page of what was reported."""
        asked = json.loads(self.body)
        tables = self._task(asked).report.get("tables", [])
        begin, size = int(asked.get("Marker") or 0), asked.get("MaxRecords", 100)
        page: dict[str, Any] = {"TableStatistics": tables[begin : begin + size]}
        if begin + size < len(tables):
            page["Marker"] = str(begin + size)
        return json.dumps({"ReplicationTaskArn": asked["ReplicationTaskArn"], **page})

    def _task(self, asked: dict[str, Any]) -> FakeReplicationTask:
        arn = asked["ReplicationTaskArn"]
        found = self.dms_backend.replication_tasks.get(arn)
        if not isinstance(found, FakeReplicationTask):
            raise ResourceNotFoundFault("Replication task could not be found.")
        return found


def mend() -> None:
    """Put this into moto, after ``moto_dms``."""
    setattr(models, FakeReplicationTask.__name__, FakeReplicationTask)
    models.dms_backends.backend = DatabaseMigrationServiceBackend
    for name, added in vars(Response).items():
        if not name.startswith("__"):
            setattr(DatabaseMigrationServiceResponse, name, added)
