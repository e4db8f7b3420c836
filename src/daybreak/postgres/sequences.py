"""Sequences: read on the old primary, set ahead on the new one. Logical replication leaves them alone.

All sequences count, whether owned by a column, an identity column or nobody. The new value is the old
one plus a margin of steps in the sequence's own direction, because clients may have drawn values
that no row shows yet; it wraps where the sequence cycles and stops at the bound where it doesn't.
PostgreSQL docs: CREATE SEQUENCE, pg_sequences, setval.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from daybreak.postgres.server import Connection

_READ = """
SELECT schemaname, sequencename, last_value, increment_by, min_value, max_value, cycle, cache_size
FROM pg_sequences WHERE schemaname NOT IN ('daybreak', 'pg_catalog', 'information_schema')
ORDER BY 1, 2
"""
_WRITE = """
SELECT setval(format('%%I.%%I', w.schema_name, w.name)::regclass, w.value)
FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS w (schema_name, name, value)
WHERE to_regclass(format('%%I.%%I', w.schema_name, w.name)) IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class SequenceValue:
    """One sequence; ``last`` is None where no value was ever drawn."""

    schema: str
    name: str
    last: int | None
    increment: int
    minimum: int
    maximum: int
    cycle: bool
    cache: int

    def ahead(self, margin: int) -> int | None:
        """The value to set so that the next one drawn was never drawn; None where none ever was.

        Pure. ``margin`` counts steps; at least one cached block of every sequence is skipped."""
        if self.last is None:
            return None
        value = self.last + max(margin, self.cache) * self.increment
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
    """All user sequences as they are now, whatever other transactions do. One round trip."""
    return tuple(_value(row) for row in connection.execute(_READ))


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
    rows = [(v.schema, v.name, new) for v in values if (new := v.ahead(margin)) is not None]
    if rows:
        schemas, names, numbers = (list(column) for column in zip(*rows, strict=True))
        connection.execute(_WRITE, [schemas, names, numbers])


def _number(value: object) -> int:
    return int(str(value))
