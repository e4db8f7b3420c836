"""The topic on which people hear of alarms, failures and milestones, and where they read what to do."""

from __future__ import annotations

from dataclasses import dataclass

from cdktn_provider_aws.sns_topic import SnsTopic
from cdktn_provider_aws.sns_topic_policy import SnsTopicPolicy
from cdktn_provider_aws.sns_topic_subscription import SnsTopicSubscription
from constructs import Construct

from daybreak.config.aws import Watch
from daybreak.infra.encryption import Keys
from daybreak.infra.policies import Condition, Statement, document, from_this_account
from daybreak.infra.site import Site

# This page of Daybreak's documentation, which is published nowhere.
_RUNBOOK = "docs/infrastructure/runbook.md"


@dataclass(frozen=True, slots=True)
class NoticesProps:
    """What the topic needs. ``email`` is subscribed where it is not empty; its owner has to confirm."""

    site: Site
    keys: Keys
    email: str


class Notices(Construct):
    """``topic``: encrypted, published to by this account's alarms, its rules and the controller, over TLS only."""

    def __init__(self, scope: Construct, id_: str, props: NoticesProps) -> None:
        super().__init__(scope, id_)
        site = props.site
        self.topic = SnsTopic(
            self,
            "topic",
            name=site.names.of("notices", limit=256),
            kms_master_key_id=props.keys.operations.arn,
        )
        SnsTopicPolicy(
            self, "policy", arn=self.topic.arn, policy=document(self, "policy-document", self._statements(site)).json
        )
        if props.email:
            SnsTopicSubscription(self, "subscription", topic_arn=self.topic.arn, protocol="email", endpoint=props.email)

    def _statements(self, site: Site) -> list[Statement]:
        topic = (self.topic.arn,)
        publish = ("sns:Publish",)
        return [
            Statement(
                "AlarmsPublish",
                publish,
                topic,
                services=("cloudwatch.amazonaws.com",),
                conditions=(from_this_account(site),),
            ),
            # EventBridge publishes without saying for whom: under a condition nothing would arrive
            # (EventBridge user guide, "Using resource-based policies", Amazon SNS permissions).
            Statement("RulesPublish", publish, topic, services=("events.amazonaws.com",)),
            Statement(
                "OnlyOverTls",
                publish,
                topic,
                accounts=("*",),
                conditions=(Condition("Bool", "aws:SecureTransport", ("false",)),),
                effect="Deny",
            ),
        ]


def runbook(settings: Watch, anchor: str = "") -> str:
    """``Runbook: `` and where it is, at ``anchor`` where one is given: a link where ``aws.watch.runbook_url`` is set,
    otherwise page and section in words, for a path is no link in an e-mail."""
    if settings.runbook_url:
        return f"Runbook: {settings.runbook_url}" + (f"#{anchor}" if anchor else "")
    return f"Runbook: {_RUNBOOK} in Daybreak's documentation" + (f", section {anchor}" if anchor else "")
