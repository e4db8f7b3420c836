"""How much of a table counts as copied."""

from __future__ import annotations

from daybreak.model import TableName
from daybreak.postgres.catalog import Table
from daybreak.replication.copy import bytes_done


def table(size: int, rows: int) -> Table:
    return Table(TableName("s", "t"), 1, size, rows, False, None, (), binary_safe=True, has_identity=True)


def test_by_rows_where_their_number_is_known() -> None:
    assert bytes_done(table(1000, 100), rows=50, received=9999) == 500


def test_by_bytes_where_it_is_not() -> None:
    assert bytes_done(table(1000, 0), rows=50, received=250) == 250


def test_never_the_whole_table_before_it_is_marked() -> None:
    assert bytes_done(table(1000, 100), rows=1000, received=0) == 990
    assert bytes_done(table(0, 0), rows=0, received=10) == 0
