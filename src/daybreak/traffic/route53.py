"""``Router`` over private DNS: Route 53 answers ``db-rw`` with the primary and ``db-ro`` with either side, by
weight. DNS says where a *new* session goes; sessions that exist stay where they are, and the fence, not DNS,
keeps writers off the closed side.

A weight that Route 53 holds for writers is 0 or 100 and nothing between: half of the writers on each side
would be two primaries, were it not for the fence."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from daybreak.config.aws import Routing
from daybreak.errors import AdapterError, PermanentError
from daybreak.model import SWITCH_TTL_SECONDS, RoutingStatus, Side
from daybreak.traffic.weighted import Weighted
from daybreak.traffic.zone import Zone

if TYPE_CHECKING:
    from types_boto3_route53 import Route53Client
    from types_boto3_route53.type_defs import ResourceRecordSetOutputTypeDef as RecordSet

# Route 53 takes five requests a second from a whole account (developer guide, "Quotas"), and the loop looks
# more often than that.
_KEPT_SECONDS = 1.0


class Route53Router:
    """Moves the weighted records that ``daybreak infra`` made.

    ``check`` is called right before each change and raises StateConflict where a newer generation acts. Records
    that are missing or not as they were made are a problem and are left alone; see ``Weighted.of``."""

    def __init__(self, client: Route53Client, settings: Routing, check: Callable[[], None]) -> None:
        self._settings = settings
        self._zone = Zone(client, settings.zone_name, settings.zone_id, check)
        self._seen: RoutingStatus | None = None
        self._seen_at = 0.0

    def observe(self) -> RoutingStatus:
        """See ``Router.observe``: what Route 53 holds, changes included that its name servers don't have yet.

        What other people change is seen a second later at most."""
        if self._seen is None or time.monotonic() - self._seen_at > _KEPT_SECONDS:
            self._seen, self._seen_at = self._look(), time.monotonic()
        return self._seen

    def _look(self) -> RoutingStatus:
        try:
            found = self._zone.records(self._settings.reader_name, self._settings.writer_name)
        except AdapterError as error:
            return RoutingStatus(problem=error.message)
        problems: list[str] = []
        side, percent, ttl_seconds = None, 0, None
        try:
            writer = self._writer(found[self._settings.writer_name])
            ttl_seconds = writer.ttl_seconds
            side = writer.side
            if side is None:
                problems.append(f"{writer.name} sends {writer.target_percent}% of writers to the target: all or none.")
        except PermanentError as error:
            problems.append(error.message)
        try:
            percent = self._reader(found[self._settings.reader_name]).target_percent
        except PermanentError as error:
            problems.append(error.message)
        return RoutingStatus(side, percent, ttl_seconds=ttl_seconds, problem=" ".join(problems))

    def refuse_shift(self, percent: int) -> str:
        """See ``Router.refuse_shift``: every percentage can be had."""
        return "" if 0 <= percent <= 100 else f"{percent} is not a percentage (0 to 100)."

    def shift_reads(self, percent: int) -> None:
        """See ``Router.shift_reads``: of the look-ups of the reading name. Returns when all name servers know."""
        if reason := self.refuse_shift(percent):
            raise PermanentError(reason, "Ask for another percentage.")
        name = self._settings.reader_name
        now = self._reader(self._zone.records(name)[name])
        self._replace(now, now.weighing(percent))

    def lower_ttl(self) -> float:
        """See ``Router.lower_ttl``. Counted from when all name servers know the lower one; where the records had
        a longer TTL than is configured, that one is returned."""
        now = self._writer_now()
        low = min(self._settings.ttl_seconds, SWITCH_TTL_SECONDS)
        self._replace(now, now.living(low))
        return float(max(self._settings.ttl_seconds, now.ttl_seconds))

    def pause(self, seconds: float) -> None:
        """Does nothing: these clients can't be held back; the fence makes their writes wait."""

    def resume(self) -> None:
        """Does nothing."""

    def point_writer(self, side: Side) -> None:
        """See ``Router.point_writer``: both weights in one change, which mends weights that somebody divided.
        Returns when all name servers know."""
        now = self._writer_now()
        self._replace(now, now.weighing(100 if side is Side.TARGET else 0))

    def clean_up(self) -> None:
        """See ``Router.clean_up``: the configured TTL again."""
        now = self._writer_now()
        if now.side is None:
            raise PermanentError(
                f"{now.name} sends {now.target_percent}% of writers to the target.",
                "Somebody changed its weights: give 100 to the primary and 0 to the other side.",
            )
        if now.ttl_seconds != self._settings.ttl_seconds:
            self._replace(now, now.living(self._settings.ttl_seconds))

    def _replace(self, old: Weighted, new: Weighted) -> None:
        try:
            self._zone.replace(old, new)
        finally:
            self._seen = None

    def _writer_now(self) -> Weighted:
        name = self._settings.writer_name
        return self._writer(self._zone.records(name)[name])

    def _writer(self, found: Sequence[RecordSet]) -> Weighted:
        leads_to = {Side.SOURCE: self._settings.source_name, Side.TARGET: self._settings.target_name}
        return Weighted.of(self._settings.writer_name, found, leads_to)

    def _reader(self, found: Sequence[RecordSet]) -> Weighted:
        """On the target readers have an endpoint of their own, whose name is Aurora's."""
        return Weighted.of(self._settings.reader_name, found, {Side.SOURCE: self._settings.source_name})
