"""``daybreak cutover``: make the target the primary."""

from __future__ import annotations

from daybreak.entry.move import move
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json, Planned, Yes
from daybreak.model import Verb


def cutover(config: Config = DEFAULT_CONFIG, as_json: Json = False, plan: Planned = False, yes: Yes = False) -> None:
    """Move writes to the target under a fence; `daybreak rollback` brings them back without loss."""
    move(Verb.CUTOVER, config, as_json, plan, yes)
