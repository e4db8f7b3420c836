"""VPC endpoints for what the controller and DMS call, since the subnets have no way to the internet.

What AWS does on their behalf needs none: Lambda writes its logs and its dead letters, Secrets Manager and
SSM decrypt, DMS writes its logs, all from AWS's side.

Route 53 has one API for all regions. Since November 2025 it is reached privately from every region by an
interface endpoint that names the API's own region (VPC guide "Cross-region enabled AWS services";
``com.amazonaws.route53``). Whoever deploys needs ``vpce:AllowMultiRegion`` for that one."""

from __future__ import annotations

from dataclasses import dataclass

from cdktn import Fn, Token
from cdktn_provider_aws.security_group import SecurityGroup
from cdktn_provider_aws.vpc_endpoint import VpcEndpoint
from constructs import Construct

from daybreak.infra.policies import Condition, Statement, document
from daybreak.infra.site import Site
from daybreak.infra.subnets import Subnets

# Secrets of both servers; checkpoint and configuration; messages; the schedule; metrics; DNS weights.
_SERVICES = ("secretsmanager", "ssm", "sns", "events", "monitoring", "route53")
GATEWAY = "dynamodb"
_ACTIONS = {"monitoring": "cloudwatch"}
# Where each partition keeps the API of Route 53 (botocore, endpoints.json).
_ROUTE53_REGIONS = {"aws": "us-east-1", "aws-cn": "cn-northwest-1", "aws-us-gov": "us-gov-west-1"}


def interface_services(with_dms: bool, existing: tuple[str, ...]) -> tuple[str, ...]:
    """The services that need an interface endpoint and have none among ``existing``."""
    wanted = (*_SERVICES, "dms") if with_dms else _SERVICES
    return tuple(service for service in wanted if service not in existing)


@dataclass(frozen=True, slots=True)
class EndpointsProps:
    """``services`` get an interface endpoint in ``group``; DynamoDB gets a gateway where ``gateway`` says so."""

    site: Site
    subnets: Subnets
    services: tuple[str, ...]
    group: SecurityGroup | None
    gateway: bool


class Endpoints(Construct):
    """Interface endpoints in every subnet, and DynamoDB's in every route table.

    Only this account's principals can use them, and only on this account's resources."""

    def __init__(self, scope: Construct, id_: str, props: EndpointsProps) -> None:
        super().__init__(scope, id_)
        self._props = props
        if props.group:
            for service in props.services:
                self._interface(service, props.group)
        if props.gateway:
            VpcEndpoint(
                self,
                GATEWAY,
                vpc_id=props.subnets.vpc_id,
                service_name=f"com.amazonaws.{props.site.region}.{GATEWAY}",
                vpc_endpoint_type="Gateway",
                route_table_ids=list(props.subnets.tables.ids),
                policy=self._policy(GATEWAY),
                tags={"Name": props.site.names.of(GATEWAY, limit=256)},
            )

    def _interface(self, service: str, group: SecurityGroup) -> None:
        site, subnets = self._props.site, self._props.subnets
        everywhere = service == "route53"
        VpcEndpoint(
            self,
            service,
            vpc_id=subnets.vpc_id,
            service_name=f"com.amazonaws.{service}" if everywhere else f"com.amazonaws.{site.region}.{service}",
            service_region=Token.as_string(Fn.lookup(_ROUTE53_REGIONS, site.partition)) if everywhere else None,
            vpc_endpoint_type="Interface",
            private_dns_enabled=True,
            subnet_ids=subnets.subnet_ids,
            security_group_ids=[group.id],
            policy=self._policy(service),
            tags={"Name": site.names.of(service, limit=256)},
        )

    def _policy(self, service: str) -> str:
        # What may be done with which resource is for the roles to say; here only whose they are. Actions
        # without a resource bear no aws:ResourceAccount (IAM user guide, global condition keys).
        account = (self._props.site.account_id,)
        statement = Statement(
            "ThisAccount",
            (f"{_ACTIONS.get(service, service)}:*",),
            ("*",),
            accounts=("*",),
            conditions=(
                Condition("StringEquals", "aws:PrincipalAccount", account),
                Condition("StringEqualsIfExists", "aws:ResourceAccount", account),
            ),
        )
        return document(self, f"{service}-policy", [statement]).json
