"""Where everything lives: private subnets in three availability zones, made here or existing ones.

Both kinds look the same to the rest: ``vpc_id``, ``subnet_ids`` (a list: the CDK takes no tuples) and the
route tables of the subnets."""

from __future__ import annotations

from dataclasses import dataclass

from cdktn import (
    Fn,
    IResolvable,
    ListTerraformIterator,
    Op,
    Postcondition,
    TerraformIterator,
    TerraformResourceLifecycle,
    TerraformSelf,
    Token,
)
from cdktn_provider_aws.data_aws_availability_zones import DataAwsAvailabilityZones, DataAwsAvailabilityZonesFilter
from cdktn_provider_aws.data_aws_route_table import DataAwsRouteTable
from cdktn_provider_aws.data_aws_subnet import DataAwsSubnet
from cdktn_provider_aws.data_aws_vpc import DataAwsVpc
from cdktn_provider_aws.default_security_group import DefaultSecurityGroup
from cdktn_provider_aws.route_table import RouteTable
from cdktn_provider_aws.route_table_association import RouteTableAssociation
from cdktn_provider_aws.subnet import Subnet
from cdktn_provider_aws.vpc import Vpc
from constructs import Construct

from daybreak.infra.site import Site

ZONES = 3
# A quarter of the range for each subnet; the last quarter stays free.
_SUBNET_BITS = 2


@dataclass(frozen=True, slots=True)
class RouteTables:
    """The route tables of the subnets. ``ids`` may hold one several times.

    ``each`` and ``id`` make one resource for each table: ``for_each`` is ``each`` (None: there is one
    table only) and the table is ``id``."""

    ids: tuple[str, ...]
    each: ListTerraformIterator | None
    id: str


@dataclass(frozen=True, slots=True)
class NewSubnetsProps:
    """``cidr`` is the address range of the VPC, /16 to /24."""

    site: Site
    cidr: str


class NewSubnets(Construct):
    """A VPC without a way to or from the internet, with a subnet in each of the region's first three zones.

    Its default security group admits nothing. Local and wavelength zones don't count: Aurora and DMS need
    real ones (EC2 API, DescribeAvailabilityZones, ``opt-in-status``)."""

    def __init__(self, scope: Construct, id_: str, props: NewSubnetsProps) -> None:
        super().__init__(scope, id_)
        names = props.site.names
        self.vpc = Vpc(
            self,
            "vpc",
            cidr_block=props.cidr,
            # Private hosted zones and the private names of VPC endpoints need both (VPC user guide, DNS attributes).
            enable_dns_support=True,
            enable_dns_hostnames=True,
            tags={"Name": names.of("vpc", limit=256)},
        )
        DefaultSecurityGroup(self, "locked", vpc_id=self.vpc.id, tags={"Name": names.of("locked", limit=256)})
        table = RouteTable(self, "table", vpc_id=self.vpc.id, tags={"Name": names.of("private", limit=256)})
        zones = _zones(self)
        subnets = [self._subnet(names.of(f"private-{index + 1}", 256), zones, index) for index in range(ZONES)]
        for index, subnet in enumerate(subnets):
            RouteTableAssociation(self, f"association-{index}", subnet_id=subnet.id, route_table_id=table.id)
        self.vpc_id: str = self.vpc.id
        self.subnet_ids = [subnet.id for subnet in subnets]
        self.tables = RouteTables((table.id,), None, table.id)

    def _subnet(self, name: str, zones: DataAwsAvailabilityZones, index: int) -> Subnet:
        return Subnet(
            self,
            f"subnet-{index}",
            vpc_id=self.vpc.id,
            availability_zone=Token.as_string(Fn.element(zones.names, index)),
            cidr_block=Fn.cidrsubnet(self.vpc.cidr_block, _SUBNET_BITS, index),
            map_public_ip_on_launch=False,
            tags={"Name": name},
            # A zone that AWS adds may come first in the list: no reason to make another subnet.
            lifecycle=TerraformResourceLifecycle(ignore_changes=["availability_zone"]),
        )


@dataclass(frozen=True, slots=True)
class ExistingSubnetsProps:
    """The ids of a VPC and of at least three of its subnets."""

    vpc_id: str
    subnet_ids: tuple[str, ...]


class ExistingSubnets(Construct):
    """Somebody else's VPC, which is looked at and left as it is.

    A plan fails where it resolves no names, or where the subnets are not private ones in zones of their own."""

    def __init__(self, scope: Construct, id_: str, props: ExistingSubnetsProps) -> None:
        super().__init__(scope, id_)
        subnets = [
            DataAwsSubnet(self, f"subnet-{index}", id=subnet_id, lifecycle=_of(props.vpc_id))
            for index, subnet_id in enumerate(props.subnet_ids)
        ]
        # Fails where a subnet has no table of its own but the VPC's main one: routes of ours don't belong there.
        tables = [
            DataAwsRouteTable(self, f"table-{index}", subnet_id=subnet_id, lifecycle=_without_internet())
            for index, subnet_id in enumerate(props.subnet_ids)
        ]
        DataAwsVpc(self, "vpc", id=props.vpc_id, lifecycle=_with_names_and_zones(subnets))
        self.vpc_id = props.vpc_id
        self.subnet_ids = list(props.subnet_ids)
        ids = tuple(table.route_table_id for table in tables)
        each = TerraformIterator.from_list(list(ids))
        self.tables = RouteTables(ids, each, Token.as_string(each.value))


Subnets = NewSubnets | ExistingSubnets


def _zones(scope: Construct) -> DataAwsAvailabilityZones:
    # Fn.element begins again at the end of a list: without the check, two subnets would share a zone.
    enough = Postcondition(
        condition=Op.gte(Fn.length_of(_self("names")), ZONES),
        error_message=f"This region has fewer than {ZONES} availability zones for this account. Set aws.region to "
        "another, or aws.network.vpc_id and subnet_ids to a network that spans three.",
    )
    return DataAwsAvailabilityZones(
        scope,
        "zones",
        state="available",
        filter=[DataAwsAvailabilityZonesFilter(name="opt-in-status", values=["opt-in-not-required"])],
        lifecycle=TerraformResourceLifecycle(postcondition=[enough]),
    )


def _of(vpc_id: str) -> TerraformResourceLifecycle:
    return TerraformResourceLifecycle(
        postcondition=[
            Postcondition(
                condition=Op.eq(_self("vpc_id"), vpc_id),
                error_message=f"A subnet in aws.network.subnet_ids is not in {vpc_id}. Name subnets of that VPC.",
            ),
            Postcondition(
                condition=Op.not_(_self("map_public_ip_on_launch")),
                error_message="A subnet in aws.network.subnet_ids gives out public addresses. Name private ones.",
            ),
        ]
    )


def _without_internet() -> TerraformResourceLifecycle:
    return TerraformResourceLifecycle(
        postcondition=[
            Postcondition(
                condition='${alltrue([for r in self.routes : !try(startswith(r.gateway_id, "igw-"), false)])}',
                error_message="A subnet in aws.network.subnet_ids has a route to an internet gateway. "
                "Name private ones.",
            )
        ]
    )


def _with_names_and_zones(subnets: list[DataAwsSubnet]) -> TerraformResourceLifecycle:
    zones = Fn.distinct([subnet.availability_zone for subnet in subnets])
    return TerraformResourceLifecycle(
        postcondition=[
            Postcondition(
                condition=Op.and_(_self("enable_dns_support"), _self("enable_dns_hostnames")),
                error_message="The VPC has enableDnsSupport or enableDnsHostnames off, which private names need. "
                "Turn both on: aws ec2 modify-vpc-attribute.",
            ),
            # An endpoint or attachment takes one subnet of a zone (EC2 API, DuplicateSubnetsInSameZone).
            Postcondition(
                condition=Op.eq(Fn.length_of(zones), len(subnets)),
                error_message="Two subnets in aws.network.subnet_ids share an availability zone. Name one of each.",
            ),
        ]
    )


def _self(attribute: str) -> IResolvable:
    found: IResolvable = TerraformSelf.get_any(attribute)
    return found
