"""Plans and outputs of ``daybreak infra`` for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from daybreak.entry.render import facts, table

if TYPE_CHECKING:
    from daybreak.infra.plan import Change, Plan

_STYLES = {"create": "green", "update": "yellow", "replace": "bold red", "destroy": "bold red"}
_WORDS = {"create": "to make", "update": "to change", "replace": "to replace", "destroy": "to destroy"}
_GOES = {"replace": "deleted and made anew", "destroy": "deleted"}
_LOUD = "bold white on red"


def plan(found: Plan) -> RenderableType:
    """Every change, their numbers, and loudly what would be gone for good."""
    if found.empty:
        return Text("Nothing to do: AWS is as the configuration says.", "green")
    rows = [(Text(one.action, _STYLES[one.action]), one.address, one.why) for one in found.changes]
    parts: list[RenderableType] = [table("", ("", "resource", "why"), rows), Text(), _summary(found)]
    for one in found.losses:
        gone = "deleted and made anew, empty" if one.action == "replace" else "deleted with all it holds"
        parts.append(Text(f" {one.address} is {gone} ", _LOUD))
    for one in found.interrupted:
        parts.append(Text(f" {one.address} takes the writes, and is {_GOES[one.action]}: they fail meanwhile ", _LOUD))
    for one in found.blocked:
        parts.append(Text(f" {one.address} can't be changed while DMS's task runs: stop the task first ", _LOUD))
    for one in found.stopped:
        parts.append(Text(f" {one.address} is stopped, and streams no more until `daybreak start` ", _LOUD))
    return Group(*parts)


def kept(key: Change, region: str) -> str:
    """What is left of a destroyed stack, and how it goes when it is no longer needed."""
    return (
        f"Left: the key {key.id}, without which nobody can read the snapshots and backups that are left. "
        f"When these are gone: `aws kms schedule-key-deletion --key-id {key.id} --region {region}`."
    )


def perhaps_kept(tags: Mapping[str, str], region: str) -> str:
    """The same where only AWS knows whether an earlier ``destroy`` has left a key; everything bears the ``tags``."""
    filters = " ".join(f"Key={name},Values={value}" for name, value in tags.items())
    return (
        "The key of the data may be left of an earlier `destroy`, for its snapshots and backups. To find it "
        "(`aws kms describe-key` says whether it is being deleted): `aws resourcegroupstaggingapi get-resources "
        f"--resource-type-filters kms:key --tag-filters {filters} --region {region}`."
    )


def _summary(found: Plan) -> Text:
    counts = [(found.count(action), words) for action, words in _WORDS.items()]  # type: ignore[arg-type]
    said = ", ".join(f"{count} {words}" for count, words in counts if count)
    return Text(f"{said}." if said else "Only outputs change.", "bold")


def outputs(found: Mapping[str, Any]) -> RenderableType:
    """Names and values."""
    return facts((name, str(value)) for name, value in found.items())
