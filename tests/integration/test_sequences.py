"""Sequences between two real servers: whatever state they are in, no value is given out twice."""

from __future__ import annotations

import pytest
from support import NAME, claimed

from daybreak.lab.pair import OWNER, Pair
from daybreak.model import Side
from daybreak.postgres import sequences

MAKE = """
CREATE SEQUENCE plain;
CREATE SEQUENCE untouched;
CREATE SEQUENCE pending;
CREATE SEQUENCE restarted;
CREATE SEQUENCE down INCREMENT -3 MINVALUE -1000 MAXVALUE -1 START -1;
CREATE SEQUENCE rolling MINVALUE 1 MAXVALUE 9 CYCLE;
CREATE SEQUENCE blocks CACHE 50;
CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, other serial);
"""
DRAW = """
SELECT nextval('plain') FROM generate_series(1, 7);
SELECT setval('pending', 5000, false);
ALTER SEQUENCE restarted RESTART WITH 100000;
SELECT nextval('down') FROM generate_series(1, 4);
SELECT nextval('rolling') FROM generate_series(1, 8);
SELECT nextval('blocks');
INSERT INTO t DEFAULT VALUES; INSERT INTO t DEFAULT VALUES;
"""


@pytest.mark.parametrize(
    ("margin", "expected"),
    [
        (
            0,
            {
                "plain": 9,
                "untouched": 1,
                "pending": 5000,
                "restarted": 100000,
                "down": -16,
                "blocks": 101,
                "t_id_seq": 4,
            },
        ),
        (10, {"plain": 18, "untouched": 11, "pending": 5010, "restarted": 100010, "down": -43, "t_other_seq": 13}),
    ],
)
def test_the_other_side_goes_on_where_this_one_stood(pair: Pair, margin: int, expected: dict[str, int]) -> None:
    with pair.connect(Side.SOURCE, OWNER) as source, pair.connect(Side.TARGET, OWNER) as target:
        for owner in (source, target):
            owner.execute("CREATE SCHEMA app")
            owner.execute("SET search_path = app")
            owner.execute(MAKE)
        source.execute(DRAW)
        with claimed(pair, Side.SOURCE) as here, claimed(pair, Side.TARGET) as there:
            sequences.set_ahead(there, sequences.read(here), margin)
        drawn = {name: target.execute("SELECT nextval(%s)", [name]).fetchone() for name in expected}
        assert drawn == {name: (value,) for name, value in expected.items()}
        rolling = target.execute("SELECT nextval('rolling')").fetchone()
        assert rolling is not None
        assert 1 <= int(str(rolling[0])) <= 9


def test_what_stands_further_is_told(pair: Pair) -> None:
    with pair.connect(Side.SOURCE, OWNER) as owner, claimed(pair, Side.SOURCE) as connection:
        owner.execute("CREATE SEQUENCE public.late")
        before = {value.name: value for value in sequences.read(connection)}["late"]
        owner.execute("SELECT nextval('public.late') FROM generate_series(1, 3)")
        after = {value.name: value for value in sequences.read(connection)}["late"]
        assert after.is_past(before)
        assert not before.is_past(after)
        assert (before.last, before.pending, after.last) == (None, 1, 3), NAME
