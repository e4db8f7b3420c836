"""The part of the composition that is AWS: one account's adapters, and how the function there is woken.

Nothing is connected here, and boto3 is looked for only where something of AWS is used."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from daybreak.aws.dms import DmsTask
from daybreak.aws.errors import translated
from daybreak.aws.session import impatient, open_session
from daybreak.config import Aws, State
from daybreak.config.names import FUNCTION, FUNCTION_LIMIT, SCHEDULE, TASK_RESOURCE_LIMIT, Names
from daybreak.errors import AdapterError
from daybreak.store.checkpoint import PublishingStore
from daybreak.store.dynamodb import DynamoStateStore
from daybreak.traffic.route53 import Route53Router

if TYPE_CHECKING:
    from boto3.session import Session

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Account:
    """The AWS side of one migration. Everything raises ConfigError where boto3 is not installed."""

    settings: Aws
    names: Names

    @cached_property
    def session(self) -> Session:
        """How AWS is reached."""
        return open_session(self.settings.region)

    def store(self, state: State, lag_seconds: Callable[[], float | None]) -> PublishingStore:
        """Record and journal in the table that ``state`` names, published in SSM."""
        table = DynamoStateStore(self.session.client("dynamodb"), state.url.removeprefix("dynamodb://"))
        alias, kms = f"alias/{self.names.of('operations', limit=250)}", self.session.client("kms")

        @cache
        def key() -> str:  # by its ARN, as Terraform knows it: another spelling would be a change to Terraform
            return state.key or kms.describe_key(KeyId=alias)["KeyMetadata"]["Arn"]

        # Nobody waits for a checkpoint: the next change publishes it again.
        ssm = self.session.client("ssm", config=impatient())
        return PublishingStore(table, ssm, self.names.path("state"), key, lag_seconds)

    def router(self, check: Callable[[], None]) -> Route53Router:
        """The names of the stack's zone."""
        return Route53Router(self.session.client("route53"), self.settings.routing, check)

    def dms_task(self) -> DmsTask:
        """The stack's task."""
        return DmsTask(
            self.session.client("dms"),
            self.session.client("cloudwatch"),
            identifier=self.names.of("task"),
            resource=self.names.short("task", TASK_RESOURCE_LIMIT),
            instance=self.names.of("dms"),
        )

    def wake(self) -> None:
        """Have the function look at once; a failure is logged, for its schedule makes it look within a minute."""
        function = self.names.of(FUNCTION, FUNCTION_LIMIT)
        try:
            with translated(f"waking {function}"):
                self.session.client("lambda").invoke(
                    FunctionName=function, InvocationType="Event", Payload=b'{"action": "poll"}'
                )
        except AdapterError as error:
            _LOG.warning("%s Its schedule wakes it.", error.message)

    def schedule(self, on: bool) -> None:
        """Turn on or off what makes the function look by itself. Raises TransientError or PermanentError."""
        rule, client = self.names.of(SCHEDULE, FUNCTION_LIMIT), self.session.client("events")
        with translated(f"turning the schedule {rule} {'on' if on else 'off'}"):
            (client.enable_rule if on else client.disable_rule)(Name=rule)
