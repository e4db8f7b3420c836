"""The widgets of a dashboard as types, and their places on its grid.

CloudWatch checks little of a body that it is given: a misspelled key shows as an empty widget. So its syntax
(CloudWatch API reference, "Dashboard Body Structure and Syntax") is written here only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from daybreak.infra.metrics import Metric

_COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Limit:
    """A horizontal line across a graph."""

    label: str
    value: float


@dataclass(frozen=True, slots=True)
class Graph:
    """Lines over time; those of ``right`` have an axis of their own."""

    title: str
    left: tuple[Metric, ...]
    right: tuple[Metric, ...] = ()
    limits: tuple[Limit, ...] = ()

    type = "metric"
    width = 8
    height = 6

    def properties(self, region: str) -> dict[str, object]:
        """What CloudWatch wants of a metric widget."""
        arrays = [one.array() for one in self.left] + [one.array(right=True) for one in self.right]
        found: dict[str, object] = {"title": self.title, "region": region, "view": "timeSeries", "metrics": arrays}
        if self.limits:
            found["annotations"] = {"horizontal": [{"label": one.label, "value": one.value} for one in self.limits]}
        return found


@dataclass(frozen=True, slots=True)
class Log:
    """The newest lines of a log group that contain an error: a Logs Insights query."""

    title: str
    group: str
    pattern: str

    type = "log"
    width = 24
    height = 6

    def properties(self, region: str) -> dict[str, object]:
        """What CloudWatch wants of a log widget."""
        query = (
            f"SOURCE '{self.group}' | fields @timestamp, @message"
            f" | filter @message like /{self.pattern}/ | sort @timestamp desc | limit 50"
        )
        return {"title": self.title, "region": region, "view": "table", "query": query}


@dataclass(frozen=True, slots=True)
class States:
    """The states of alarms."""

    title: str
    arns: tuple[str, ...]

    type = "alarm"
    width = 24
    height = 4

    def properties(self, region: str) -> dict[str, object]:  # noqa: ARG002 - the ARNs name it
        """What CloudWatch wants of an alarm widget."""
        return {"title": self.title, "alarms": list(self.arns)}


@dataclass(frozen=True, slots=True)
class Text:
    """A few words in Markdown."""

    markdown: str

    type = "text"
    width = 24
    height = 3

    def properties(self, region: str) -> dict[str, object]:  # noqa: ARG002 - words are the same everywhere
        """What CloudWatch wants of a text widget."""
        return {"markdown": self.markdown}


Widget = Graph | Log | States | Text


def body(rows: Sequence[Sequence[Widget]], region: str) -> str:
    """The body of a dashboard with ``rows`` under each other; names in it may be Terraform references."""
    # "inherit": a widget's own period holds whatever range is shown, so that a minute's outage stays visible.
    return json.dumps({"periodOverride": "inherit", "widgets": list(_placed(rows, region))}, sort_keys=True)


def _placed(rows: Sequence[Sequence[Widget]], region: str) -> Iterator[dict[str, object]]:
    y = 0
    for row in rows:
        x = 0
        for widget in row:
            if x + widget.width > _COLUMNS:
                raise ValueError(f"a row is wider than {_COLUMNS} columns: {row}")
            place = {"x": x, "y": y, "width": widget.width, "height": widget.height}
            yield {"type": widget.type, **place, "properties": widget.properties(region)}
            x += widget.width
        y += max(widget.height for widget in row)
