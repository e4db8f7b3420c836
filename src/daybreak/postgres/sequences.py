"""Sequences: read on the old primary, set ahead on the new one. Logical replication leaves them alone.

All sequences count, whether owned by a column, an identity column or nobody. The new value is the old
one plus a margin of steps in the sequence's own direction, because clients may have drawn values
that no row shows yet; it wraps where the sequence cycles and stops at the bound where it doesn't.
PostgreSQL docs: CREATE SEQUENCE, pg_sequences, setval.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from psycopg import sql

from daybreak.postgres.server import Connection

_READ = """
SELECT schemaname, sequencename, last_value, increment_by, min_value, max_value, cycle, cache_size
FROM pg_sequences WHERE schemaname NOT IN ('daybreak', 'pg_catalog', 'information_schema')
ORDER BY 1, 2
"""
_WRITE = """
SELECT setval(format('%%I.%%I', w.schema_name, w.name)::regclass, w.value, w.drawn)
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::boolean[]) AS w (schema_name, name, value, drawn)
WHERE to_regclass(format('%%I.%%I', w.schema_name, w.name)) IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class SequenceValue:
    """One sequence; ``last`` is None where no value was drawn since it was made, restarted or set with
    ``is_called = false``: then ``pending`` is the value that will be drawn first."""

    schema: str
    name: str
    last: int | None
    increment: int
    minimum: int
    maximum: int
    cycle: bool
    cache: int
    pending: int | None = None

    def ahead(self, margin: int) -> int | None:
        """The value to set so that the next one drawn was never drawn; None where nothing is known.

        Pure. ``margin`` counts steps; of a sequence that was drawn from, at least a cached block is skipped."""
        if self.last is not None:
            value = self.last + max(margin, self.cache) * self.increment
        elif self.pending is not None:
            value = self.pending + margin * self.increment
        else:
            return None
        if self.minimum <= value <= self.maximum:
            return value
        if not self.cycle:
            return self.maximum if self.increment > 0 else self.minimum
        return self.minimum + (value - self.minimum) % (self.maximum - self.minimum + 1)

    def is_past(self, other: SequenceValue) -> bool:
        """Whether this one stands further in its own direction than ``other``."""
        if self.last is None or other.last is None:
            return other.last is None
        return self.last > other.last if self.increment > 0 else self.last < other.last


def read(connection: Connection) -> tuple[SequenceValue, ...]:
    """All user sequences as they are now, whatever other transactions do. One round trip, and one more
    where some were not drawn from: the view hides the value that they stand at.

    Raises psycopg.errors.InsufficientPrivilege where one of those can't be read."""
    values = tuple(_value(row) for row in connection.execute(_READ))
    untouched = [value for value in values if value.last is None]
    if not untouched:
        return values
    queries = [
        sql.SQL("SELECT {}::int, last_value, is_called FROM {}").format(number, sql.Identifier(one.schema, one.name))
        for number, one in enumerate(untouched)
    ]
    stands = {
        (untouched[_number(number)].schema, untouched[_number(number)].name): (_number(value), bool(called))
        for number, value, called in connection.execute(sql.SQL(" UNION ALL ").join(queries))
    }
    return tuple(_standing(value, stands.get((value.schema, value.name))) for value in values)


def _standing(value: SequenceValue, stands: tuple[int, bool] | None) -> SequenceValue:
    if stands is None:
        return value
    return replace(value, last=stands[0]) if stands[1] else replace(value, pending=stands[0])


def _value(row: tuple[object, ...]) -> SequenceValue:
    schema, name, last, increment, minimum, maximum, cycle, cache = row
    return SequenceValue(
        str(schema),
        str(name),
        None if last is None else _number(last),
        _number(increment),
        _number(minimum),
        _number(maximum),
        bool(cycle),
        _number(cache),
    )


def set_ahead(connection: Connection, values: Iterable[SequenceValue], margin: int) -> None:
    """Set this server's sequences from ``values`` of the other one plus ``margin``. One round trip."""
    rows = [(v.schema, v.name, new, v.last is not None) for v in values if (new := v.ahead(margin)) is not None]
    if rows:
        connection.execute(_WRITE, [list(column) for column in zip(*rows, strict=True)])


def _number(value: object) -> int:
    return int(str(value))
