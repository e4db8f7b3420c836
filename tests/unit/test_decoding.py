"""What ``test_decoding`` says is read back whole, whatever names and values look like."""

from __future__ import annotations

import pytest

from daybreak.lab.decoding import Change, parse
from daybreak.model import TableName

ORDERS = (TableName("public", "orders"),)


@pytest.mark.parametrize(
    ("text", "change"),
    [
        (
            "table public.orders: INSERT: id[bigint]:1 note[text]:'it''s [x]:''y''' paid[boolean]:true gone[text]:null",
            Change("INSERT", ORDERS, {"id": "1", "note": "it's [x]:'y'", "paid": "true", "gone": None}, {}),
        ),
        (
            "table public.orders: INSERT: tags[text[]]:'{a,\"b c\"}'"
            " mood[\"Shop\".\"m o\"]:'so''so' bits[bit varying]:B'101'",
            Change("INSERT", ORDERS, {"tags": '{a,"b c"}', "mood": "so'so", "bits": "101"}, {}),
        ),
        (
            "table public.orders: UPDATE: id[bigint]:1 big[text]:unchanged-toast-datum at[timestamp with time zone]:"
            "'2026-01-01 00:00:00+00'",
            Change("UPDATE", ORDERS, {"id": "1", "at": "2026-01-01 00:00:00+00"}, {}),
        ),
        (
            "table public.orders: UPDATE: old-key: id[text]:'new-tuple: 1'"
            " new-tuple: id[bigint]:2 note[text]:'new-tuple: x'",
            Change("UPDATE", ORDERS, {"id": "2", "note": "new-tuple: x"}, {"id": "new-tuple: 1"}),
        ),
        ("table public.orders: DELETE: id[bigint]:7", Change("DELETE", ORDERS, {}, {"id": "7"})),
        (
            'table "My ""Shop""".orders, public."a.b": TRUNCATE: restart_seqs cascade',
            Change("TRUNCATE", (TableName('My "Shop"', "orders"), TableName("public", "a.b")), {}, {}),
        ),
        (
            'table public.orders: INSERT: note[text]:\'two\nlines\' "Odd ""col"""[integer]:-5',
            Change("INSERT", ORDERS, {"note": "two\nlines", 'Odd "col"': "-5"}, {}),
        ),
    ],
)
def test_a_line_is_read_back(text: str, change: Change) -> None:
    assert parse(text) == change


@pytest.mark.parametrize("text", ["BEGIN", "table public.orders: INSERT: id[bigint", "table public.orders: MERGE: x"])
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse(text)
