"""The same call as a command of the AWS CLI, for people who want to see it or run it themselves."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from datetime import datetime


def command(service: str, operation: str, region: str, parameters: Mapping[str, object]) -> str:
    """``aws SERVICE OPERATION ...`` for an API call (``DescribeDBClusters``) or a waiter (``wait
    DBClusterAvailable``), quoted for a POSIX shell."""
    words = ["aws", service, *map(_kebab, operation.split()), "--region", region]
    for name, value in parameters.items():
        words += _option(_kebab(name), value)
    return shlex.join(words)


def _option(name: str, value: object) -> list[str]:
    match value:
        case bool():
            return [f"--{name}" if value else f"--no-{name}"]
        case datetime():
            return [f"--{name}", value.isoformat()]
        case [str(), *_]:
            return [f"--{name}", *map(str, value)]
        case str() | int() | float():
            return [f"--{name}", str(value)]
        case _:
            return [f"--{name}", json.dumps(value)]


def _kebab(name: str) -> str:
    """The CLI's spelling (botocore, ``xform_name``)."""
    parted = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1-\2", name)
    return re.sub(r"([a-z\d])([A-Z])", r"\1-\2", parted).lower()
