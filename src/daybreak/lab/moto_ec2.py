"""moto's EC2, mended where it forgets what it was told and Terraform would write or make it again.

moto 5.2.5 forgets what a security group's rule is for where its other end is a group or a prefix list, and the
region of a VPC endpoint's service (EC2 API, SecurityGroupRule and VpcEndpoint)."""

from __future__ import annotations

import inspect
from typing import Any

from moto.ec2.models import security_groups, vpcs

# Services that are one for the whole partition, such as Route 53, live here.
_GLOBAL_REGION = "us-east-1"


class SecurityGroupRule(security_groups.SecurityGroupRule):
    """A rule that keeps its description, whatever its other end is."""

    __module__ = security_groups.__name__  # here and below: moto goes by the module's name

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        given = inspect.signature(super().__init__).bind(*arguments, **named).arguments
        self._prefix_list: dict[str, str] = given.get("prefix_list_id") or {}

    @property
    def description(self) -> str | None:
        """What the rule is for."""
        ends = (self.ip_range, self.source_group, self._prefix_list)
        return next((end["Description"] for end in ends if "Description" in end), None)


class VPCEndPoint(vpcs.VPCEndPoint):
    """An endpoint that knows the region of its service."""

    __module__ = vpcs.__name__

    @property
    def service_region(self) -> str:
        """That in ``com.amazonaws.REGION.SERVICE``; there is none in ``com.amazonaws.route53``."""
        parts = self.service_name.split(".")
        return parts[2] if len(parts) > 3 else _GLOBAL_REGION


def mend() -> None:
    """Put the mended parts into moto."""
    for module, mended in ((security_groups, SecurityGroupRule), (vpcs, VPCEndPoint)):
        setattr(module, mended.__name__, mended)
