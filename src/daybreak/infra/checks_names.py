"""Checks of names that the stack takes and that are not free: AWS would refuse them with the cluster made already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from daybreak.config import InfraSettings
from daybreak.config.names import SECRET_LIMIT, Names
from daybreak.errors import Finding
from daybreak.infra.findings import blocker

if TYPE_CHECKING:
    from boto3.session import Session

_MIGRATION = "daybreak:migration"


def secrets(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """No secret of an earlier stack is waiting for its end: it keeps its name until then (Secrets Manager API,
    DeleteSecret)."""
    client, names = session.client("secretsmanager"), Names(settings.name, settings.aws.environment)
    of_dms = ("dms-source", "dms-target") if settings.replication.engine == "dms" else ()
    for what in ("source", "target", *of_dms):
        name = names.of(what, SECRET_LIMIT)
        try:
            deleted = client.describe_secret(SecretId=name).get("DeletedDate")
        except client.exceptions.ResourceNotFoundException:
            continue
        if deleted is None:
            continue
        of = f"--secret-id {name} --region {settings.aws.region}"
        yield blocker(
            "secrets",
            name,
            "It was deleted, and keeps its name until its recovery window ends: no other can be made.",
            f"For good: `aws secretsmanager delete-secret {of} --force-delete-without-recovery`. To have it back: "
            f"`aws secretsmanager restore-secret {of}`, and `terraform import` where the stack was destroyed.",
        )


def parameters(settings: InfraSettings, session: Session) -> Iterator[Finding]:
    """The two parameters are free, or this migration's: their path has the environment alone in it."""
    ssm, names = session.client("ssm"), Names(settings.name, settings.aws.environment)
    for name in ssm.get_parameters(Names=[names.path("state"), names.path("config")])["Parameters"]:
        path = name["Name"]
        tags = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=path)["TagList"]
        owner = {tag["Key"]: tag["Value"] for tag in tags}.get(_MIGRATION, "")
        if owner != settings.name:
            whose = f"the migration {owner}" if owner else "something else than Daybreak"
            fix = "Set another aws.environment: one account and region has one migration in each."
            yield blocker("parameters", path, f"It belongs to {whose}.", fix)
