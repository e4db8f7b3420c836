"""moto as a server, mended where Terraform's AWS provider trips over it: ``python -m daybreak.lab.moto_shim PORT``.

moto 5.2.5 reports an Aurora cluster without serverless (v1) scaling as one with empty limits, looks for the KMS
key of its master user among moto's own, makes no cluster of one name twice in a minute, forgets Performance
Insights of its instances and does not know the versions of Aurora. What else is mended is in ``moto_dms``,
``moto_tasks``, ``moto_ec2`` and ``moto_route53``."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from moto.core.responses import ActionResult
from moto.rds import models as rds
from moto.rds.exceptions import DBClusterSnapshotAlreadyExistsError
from moto.rds.responses import RDSResponse
from moto.server import main

from daybreak.lab import moto_dms, moto_ec2, moto_route53, moto_tasks

HOST = "127.0.0.1"
AURORA_VERSIONS = ("15.10", "16.8", "17.4", "17.5")
"""What the emulated regions offer."""


class DBInstanceClustered(rds.DBInstanceClustered):
    """An instance that keeps its Performance Insights."""

    __module__ = rds.__name__  # moto goes by the module's name

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.performance_insights_enabled = arguments.get("enable_performance_insights", False)
        self.performance_insights_kms_key_id = arguments.get("performance_insights_kms_key_id")
        self.performance_insights_retention_period = arguments.get("performance_insights_retention_period")


def _describe_db_engine_versions(_self: RDSResponse) -> ActionResult:
    offered = [{"Engine": "aurora-postgresql", "EngineVersion": version} for version in AURORA_VERSIONS]
    return ActionResult({"DBEngineVersions": offered})


def mend() -> None:
    """Put the mended parts into moto, before it serves."""
    for part in (moto_dms, moto_tasks, moto_ec2, moto_route53):
        part.mend()
    setattr(rds, DBInstanceClustered.__name__, DBInstanceClustered)
    shown, backed_up = vars(rds.DBCluster)["scaling_configuration_info"].fget, rds.DBCluster.save_automated_backup

    def back_up(cluster: rds.DBCluster) -> None:
        # The snapshot is named after the minute.
        with suppress(DBClusterSnapshotAlreadyExistsError):
            backed_up(cluster)

    members: list[tuple[type, str, object]] = [
        (
            rds.DBCluster,
            "scaling_configuration_info",
            property(lambda c: shown(c) if c.scaling_configuration else None),
        ),
        (rds.DBCluster, "save_automated_backup", back_up),
        (rds.MasterUserSecret, "kms_key_id", property(lambda managed: managed.secret.kms_key_id)),
        (RDSResponse, "describe_db_engine_versions", _describe_db_engine_versions),
    ]
    for owner, name, member in members:
        setattr(owner, name, member)


if __name__ == "__main__":
    mend()
    main(["--host", HOST, "--port", sys.argv[1]])
