"""The emulator remembers what a second plan would otherwise want to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws

from daybreak.lab import moto_ec2

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import IpPermissionTypeDef


@pytest.fixture(autouse=True)
def _mended(monkeypatch: pytest.MonkeyPatch) -> None:
    moto_ec2.mend()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "emulated")


@mock_aws
def test_every_rule_keeps_its_description() -> None:
    ec2 = boto3.client("ec2", region_name="eu-central-1")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="one", Description="one", VpcId=vpc)["GroupId"]
    (prefix_list,) = ec2.describe_managed_prefix_lists(
        Filters=[{"Name": "prefix-list-name", "Values": ["com.amazonaws.eu-central-1.dynamodb"]}]
    )["PrefixLists"]
    ends: list[IpPermissionTypeDef] = [
        {"UserIdGroupPairs": [{"GroupId": group, "Description": "to a group"}]},
        {"PrefixListIds": [{"PrefixListId": prefix_list["PrefixListId"], "Description": "to a list"}]},
        {"IpRanges": [{"CidrIp": "10.1.0.0/16", "Description": "to a network"}]},
        {"IpRanges": [{"CidrIp": "10.2.0.0/16"}]},
    ]
    for end in ends:
        ec2.authorize_security_group_ingress(
            GroupId=group, IpPermissions=[{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, **end}]
        )
    rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])["SecurityGroupRules"]
    said = {rule.get("Description") for rule in rules if not rule["IsEgress"]}
    assert said == {"to a group", "to a list", "to a network", None}


@mock_aws
def test_an_endpoint_keeps_the_region_of_its_service() -> None:
    ec2 = boto3.client("ec2", region_name="eu-central-1")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.create_vpc_endpoint(
        VpcId=vpc, ServiceName="com.amazonaws.route53", ServiceRegion="us-east-1", VpcEndpointType="Interface"
    )
    (endpoint,) = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert endpoint["ServiceRegion"] == "us-east-1"
