"""Names of AWS resources, agreed between what makes them (``daybreak infra``) and what looks them up.

AWS's own limits on names are checked here, before Terraform runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from daybreak.errors import ConfigError

# What wakes the controller on AWS while a migration is active.
SCHEDULE = "poll"
FUNCTION = "controller"
# AWS's limit on the names of functions and rules, characters.
FUNCTION_LIMIT = 64
# That on the names of secrets, characters.
SECRET_LIMIT = 512
# What `daybreak rewind` looks up by name.
CLUSTER = "aurora"
REWIND_PARAMETERS = "rewind"
# Tag of what is backed up daily; its value names the plan.
BACKUP_TAG = "daybreak-backup"
# AWS's limit on the names of parameter groups, characters.
PARAMETER_GROUP_LIMIT = 255
# That on the resource identifier of a DMS task, under which its metrics are filed (API CreateReplicationTask).
TASK_RESOURCE_LIMIT = 31


@dataclass(frozen=True, slots=True)
class Names:
    """Names of resources: ``daybreak-MIGRATION-WHAT-ENVIRONMENT``, so that every name ends with the environment."""

    migration: str
    environment: str

    def of(self, what: str, limit: int = 63) -> str:
        """The name of ``what`` (a-z, 0-9, -). ``limit`` is AWS's for that kind of name, characters.

        63 is that of RDS and DMS identifiers, the shortest of those in use. Raises ConfigError where
        the name would be longer."""
        name = f"daybreak-{self._plain()}-{what}-{self.environment}"
        if len(name) > limit:
            over = len(name) - limit
            raise ConfigError(
                f"The name {name} has {len(name)} characters; AWS allows {limit}.",
                f"Shorten `name` or `aws.environment` by {over} character{'s' if over > 1 else ''}.",
            )
        return name

    def short(self, what: str, limit: int) -> str:
        """A name of at most ``limit`` characters, for identifiers too short for every migration's name.

        Where it has to be cut, a digest of the whole keeps it unique."""
        whole = f"{self._plain()}-{what}-{self.environment}"
        if len(whole) <= limit:
            return whole
        ending = f"-{hashlib.sha256(whole.encode()).hexdigest()[:6]}-{self.environment}"
        return whole[: limit - len(ending)].rstrip("-") + ending

    def tags(self) -> dict[str, str]:
        """The tags that everything of this migration bears."""
        return {"daybreak:migration": self.migration, "daybreak:environment": self.environment}

    def path(self, what: str) -> str:
        """The SSM path ``/migration/ENVIRONMENT/WHAT``."""
        return f"/migration/{self.environment}/{what}"

    def _plain(self) -> str:
        # RDS and DMS refuse underscores, doubled and trailing hyphens.
        return "-".join(filter(None, self.migration.split("_")))
