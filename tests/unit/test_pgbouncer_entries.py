"""What may stand in the file of PgBouncer's database entries, and how it is replaced."""

import pytest

from daybreak.errors import ConfigError
from daybreak.traffic.entries import checked_name, checked_options, render


@pytest.mark.parametrize("name", ["payments", "payments-ro", "Pay.2", "_"])
def test_plain_names_are_taken(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "*", "a b", "a=b", 'a"', "a\nb", "pgbouncer", "[x]", "zahlüng"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="entry"):
        checked_name(name)


def test_options_are_pairs() -> None:
    options = checked_options("pool_size=20 connect_query='SELECT 1'  pool_mode=transaction")
    assert options == {"pool_size": "20", "connect_query": "SELECT 1", "pool_mode": "transaction"}
    assert checked_options("") == {}


@pytest.mark.parametrize("options", ["pool_size", "host=x", "port=1", "dbname=x", "password=x", "x='", "=1"])
def test_addresses_passwords_and_nonsense_are_no_options(options: str) -> None:
    with pytest.raises(ConfigError, match=r"traffic\.pgbouncer\.options") as raised:
        checked_options(options)
    assert raised.value.hint


def test_values_are_quoted() -> None:
    text = render({"shop": {"host": "/tmp", "dbname": "it's; a=b"}})
    assert text.splitlines()[1:] == ["[databases]", "shop = host='/tmp' dbname='it''s; a=b'"]


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_a_line_break_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="line break"):
        render({"shop": {"dbname": value}})
