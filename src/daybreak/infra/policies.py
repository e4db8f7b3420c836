"""IAM policies as typed documents: every statement has a purpose, its actions and its resources.

Terraform's policy documents are used rather than JSON strings, so that a misspelled key is an error at
synthesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cdktn_provider_aws.data_aws_iam_policy_document import (
    DataAwsIamPolicyDocument,
    DataAwsIamPolicyDocumentStatement,
    DataAwsIamPolicyDocumentStatementCondition,
    DataAwsIamPolicyDocumentStatementPrincipals,
)
from cdktn_provider_aws.iam_role import IamRole
from cdktn_provider_aws.iam_role_policy import IamRolePolicy
from constructs import Construct

from daybreak.infra.site import Site


@dataclass(frozen=True, slots=True)
class Condition:
    """``operator`` (``StringEquals``) on ``key`` with any of ``values``."""

    operator: str
    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One permission. ``sid`` says what it is for. ``services`` are the principals of a resource's or
    a trust policy; a role's policy has none."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    effect: str = "Allow"


def document(scope: Construct, id_: str, statements: Sequence[Statement]) -> DataAwsIamPolicyDocument:
    """The policy of ``statements``; its ``json`` goes where AWS wants a policy."""
    return DataAwsIamPolicyDocument(scope, id_, statement=[_typed(one) for one in statements])


def from_this_account(site: Site) -> Condition:
    """Against the confused deputy: the service acts for this account (IAM user guide, confused deputy)."""
    return Condition("StringEquals", "aws:SourceAccount", (site.account_id,))


def service_role(
    scope: Construct, id_: str, site: Site, what: str, service: str, statements: Sequence[Statement] = ()
) -> IamRole:
    """A role named after ``what`` that ``service`` may assume for this account, with ``statements`` as its rights."""
    trust = Statement("Assume", ("sts:AssumeRole",), services=(service,), conditions=(from_this_account(site),))
    role = IamRole(
        scope,
        id_,
        name=site.names.of(what, limit=64),
        assume_role_policy=document(scope, f"{id_}-trust", [trust]).json,
    )
    if statements:
        rights = document(scope, f"{id_}-rights", statements)
        IamRolePolicy(scope, f"{id_}-policy", name=site.names.of(what, limit=128), role=role.id, policy=rights.json)
    return role


def _typed(one: Statement) -> DataAwsIamPolicyDocumentStatement:
    principals = [
        DataAwsIamPolicyDocumentStatementPrincipals(type=kind, identifiers=list(who))
        for kind, who in (("Service", one.services), ("AWS", one.accounts))
        if who
    ]
    return DataAwsIamPolicyDocumentStatement(
        sid=one.sid,
        effect=one.effect,
        actions=list(one.actions),
        resources=list(one.resources) or None,
        principals=principals or None,
        condition=[
            DataAwsIamPolicyDocumentStatementCondition(test=c.operator, variable=c.key, values=list(c.values))
            for c in one.conditions
        ]
        or None,
    )
