"""The controller: a Lambda function in the private subnets that moves the migration on.

Only one runs at a time. Its role may do what moving this migration takes and nothing to anything else."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cdktn import AssetType, TerraformAsset
from cdktn_provider_aws.cloudwatch_log_group import CloudwatchLogGroup
from cdktn_provider_aws.iam_role_policy import IamRolePolicy
from cdktn_provider_aws.lambda_function import (
    LambdaFunction,
    LambdaFunctionDeadLetterConfig,
    LambdaFunctionEnvironment,
    LambdaFunctionTracingConfig,
    LambdaFunctionVpcConfig,
)
from cdktn_provider_aws.lambda_function_event_invoke_config import LambdaFunctionEventInvokeConfig
from cdktn_provider_aws.sqs_queue import SqsQueue
from constructs import Construct

from daybreak.config.aws import Controller as Settings
from daybreak.config.names import FUNCTION, FUNCTION_LIMIT, SCHEDULE
from daybreak.infra.controller_rights import RightsProps, rights
from daybreak.infra.dms import Dms
from daybreak.infra.encryption import Keys
from daybreak.infra.network import Network
from daybreak.infra.notices import Notices
from daybreak.infra.policies import document, service_role
from daybreak.infra.routing import Routing
from daybreak.infra.secrets import Secrets
from daybreak.infra.site import Site
from daybreak.infra.state import State

HANDLER = "daybreak.entry.lambda_handler.handle"
# Lambda's own limit: a switchover runs in one invocation.
TIMEOUT_SECONDS = 900
# What comes while the function runs waits in a queue of Lambda's. Looks that piled up behind two of the longest
# runs still find their turn, so that a healthy migration leaves no dead letter; a cutover that somebody asked for
# does not happen hours later.
_WAIT_SECONDS = 2 * TIMEOUT_SECONDS
# SQS's own limit: time for somebody to look.
_KEEP_LETTERS_SECONDS = 14 * 86_400


def schedule_name(site: Site) -> str:
    """The rule by which the function is woken while a migration is active. ``events`` makes it; the
    controller turns it on and off."""
    return site.names.of(SCHEDULE, FUNCTION_LIMIT)


@dataclass(frozen=True, slots=True)
class ControllerProps:
    """What the controller needs. ``package`` is the zip that ``infra.package`` has built."""

    site: Site
    settings: Settings
    network: Network
    keys: Keys
    secrets: Secrets
    state: State
    routing: Routing
    dms: Dms | None
    notices: Notices
    package: Path


class Controller(Construct):
    """``function``, the ``log_group`` of its output, and ``dead_letters``: the queue for events that it could
    not handle. ``events`` says who else may put messages there."""

    def __init__(self, scope: Construct, id_: str, props: ControllerProps) -> None:
        super().__init__(scope, id_)
        self._props = props
        self._name = props.site.names.of(FUNCTION, FUNCTION_LIMIT)
        self.dead_letters = SqsQueue(
            self,
            "dead-letters",
            name=props.site.names.of("dead-letters", limit=80),
            kms_master_key_id=props.keys.operations.arn,
            message_retention_seconds=_KEEP_LETTERS_SECONDS,
        )
        self.log_group = CloudwatchLogGroup(
            self,
            "log",
            name=f"/aws/lambda/{self._name}",
            retention_in_days=props.site.log_days,
            kms_key_id=props.keys.operations.arn,
        )
        self.function = self._function()
        # A look that failed is made up for by the next one, and a request that failed is for whoever made it to
        # repeat. What was refused a start is tried again all the same (Lambda developer guide, "How Lambda handles
        # errors and retries with asynchronous invocation").
        LambdaFunctionEventInvokeConfig(
            self,
            "queue",
            function_name=self.function.function_name,
            maximum_event_age_in_seconds=_WAIT_SECONDS,
            maximum_retry_attempts=0,
        )

    def _function(self) -> LambdaFunction:
        props = self._props
        role = service_role(self, "role", props.site, "controller", "lambda.amazonaws.com")
        policy = IamRolePolicy(
            self,
            "role-policy",
            name=self._name,
            role=role.id,
            policy=document(self, "role-rights", rights(self._rights_props())).json,
        )
        # By its content, so that the same content is the same path on every machine.
        package = TerraformAsset(self, "package", path=str(props.package.resolve()), type=AssetType.FILE)
        digest = hashlib.sha256(props.package.read_bytes()).digest()
        return LambdaFunction(
            self,
            "function",
            function_name=self._name,
            description=f"Daybreak: moves the migration {props.site.names.migration} on",
            role=role.arn,
            handler=HANDLER,
            runtime=props.settings.runtime,
            architectures=[props.settings.architecture],
            memory_size=props.settings.memory_mb,
            timeout=TIMEOUT_SECONDS,
            reserved_concurrent_executions=1,
            filename=package.path,
            source_code_hash=base64.b64encode(digest).decode(),
            kms_key_arn=props.keys.operations.arn,
            environment=LambdaFunctionEnvironment(variables=self._variables()),
            vpc_config=LambdaFunctionVpcConfig(
                subnet_ids=props.network.subnet_ids, security_group_ids=[props.network.controller_group.id]
            ),
            dead_letter_config=LambdaFunctionDeadLetterConfig(target_arn=self.dead_letters.arn),
            tracing_config=LambdaFunctionTracingConfig(mode="Active"),
            # Lambda checks the rights when the function is made. It would make the group itself, without an end
            # and without our key.
            depends_on=[policy, self.log_group],
        )

    def _variables(self) -> dict[str, str]:
        """Names of what the function reads; secrets are not among them."""
        props = self._props
        return {
            "CONFIG_PARAMETER": props.state.config_parameter.name,
            "STATE_TABLE": props.state.table.name,
            "STATE_KEY": props.keys.operations.arn,
            "NOTICES_TOPIC": props.notices.topic.arn,
            "SOURCE_SECRET": props.secrets.source.arn,
            "TARGET_SECRET": props.secrets.target.arn,
            "SCHEDULE": schedule_name(props.site),
            "LOG_LEVEL": "INFO",
        }

    def _rights_props(self) -> RightsProps:
        props = self._props
        return RightsProps(
            site=props.site,
            keys=props.keys,
            secrets=props.secrets,
            state=props.state,
            routing=props.routing,
            dms=props.dms,
            notices=props.notices,
            function_name=self._name,
            dead_letters=self.dead_letters,
            log_group=self.log_group,
            schedule_name=schedule_name(props.site),
        )
