"""``daybreak rollback``: make the source the primary again."""

from __future__ import annotations

from daybreak.entry.move import move
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json, Planned, Yes
from daybreak.model import Verb


def rollback(config: Config = DEFAULT_CONFIG, as_json: Json = False, plan: Planned = False, yes: Yes = False) -> None:
    """Move writes back to the source under a fence; nothing written on the target is lost."""
    move(Verb.ROLLBACK, config, as_json, plan, yes)
