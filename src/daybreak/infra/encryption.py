"""Customer managed KMS keys, one for each kind of data, each rotating yearly.

The key policies give the account's administrators control and AWS services only what they need on
Daybreak's behalf; roles get their use of a key from their own policies (KMS developer guide, key
policies)."""

from __future__ import annotations

from dataclasses import dataclass

from cdktn_provider_aws.kms_alias import KmsAlias
from cdktn_provider_aws.kms_key import KmsKey
from constructs import Construct

from daybreak.infra.policies import Condition, Statement, document, from_this_account
from daybreak.infra.site import Site

_USE = ("kms:Decrypt", "kms:GenerateDataKey*")


@dataclass(frozen=True, slots=True)
class KeysProps:
    """What the keys need."""

    site: Site


class Keys(Construct):
    """``data``: cluster, snapshots and backups. ``secrets``: Secrets Manager. ``operations``: messages,
    logs, record, parameters and the function's environment."""

    def __init__(self, scope: Construct, id_: str, props: KeysProps) -> None:
        super().__init__(scope, id_)
        self._site = props.site
        self.data = self._key("data", ())
        self.secrets = self._key("secrets", ())
        self.operations = self._key("operations", (*self._messages(), self._logs()))

    def _key(self, what: str, statements: tuple[Statement, ...]) -> KmsKey:
        root = f"arn:{self._site.partition}:iam::{self._site.account_id}:root"
        # A key policy speaks of its own key only; "*" there means "this key".
        administer = Statement("AccountAdministers", ("kms:*",), ("*",), accounts=(root,))
        key = KmsKey(
            self,
            what,
            description=f"Daybreak {self._site.names.migration} {self._site.names.environment}: {what}",
            enable_key_rotation=True,
            deletion_window_in_days=30 if self._site.protected else 7,
            policy=document(self, f"{what}-policy", (administer, *statements)).json,
        )
        KmsAlias(self, f"{what}-alias", name=f"alias/{self._site.names.of(what, limit=250)}", target_key_id=key.key_id)
        return key

    def _messages(self) -> tuple[Statement, ...]:
        """Alarms and rules publish to an encrypted topic, rules to an encrypted queue (SNS developer guide,
        "Managing Amazon SNS encryption keys"). EventBridge doesn't say for whom it publishes: under a condition
        on the source account nothing would arrive, so it is bound to this account's topics and queues."""
        publishers = ("cloudwatch.amazonaws.com", "sns.amazonaws.com", "rds.amazonaws.com")
        return (
            Statement(
                "ServicesPublish", _USE, ("*",), services=publishers, conditions=(from_this_account(self._site),)
            ),
            self._rules("RulesPublish", "aws:sns:topicArn", self._site.arn("sns", "*")),
            self._rules("RulesQueue", "aws:sqs:arn", self._site.arn("sqs", "*")),
        )

    def _rules(self, sid: str, context: str, of: str) -> Statement:
        bound = Condition("ArnLike", f"kms:EncryptionContext:{context}", (of,))
        return Statement(sid, _USE, ("*",), services=("events.amazonaws.com",), conditions=(bound,))

    def _logs(self) -> Statement:
        """CloudWatch Logs user guide, "Encrypt log data": bound to this account's log groups."""
        groups = self._site.arn("logs", "log-group:*")
        return Statement(
            "LogsEncrypt",
            ("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*"),
            ("*",),
            services=(self._site.service("logs"),),
            conditions=(Condition("ArnLike", "kms:EncryptionContext:aws:logs:arn", (groups,)),),
        )
