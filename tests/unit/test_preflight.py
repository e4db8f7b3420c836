"""The parts of the checks that ask no server, and that their catalogue is what the documentation says."""

from __future__ import annotations

from pathlib import Path

import pytest

from daybreak.model import Side, TableName
from daybreak.postgres.sequences import SequenceValue
from daybreak.preflight.connection import connect_fix, judge_answer
from daybreak.preflight.context import listed, statement
from daybreak.preflight.run import CHECKS, catalogue, check_id
from daybreak.preflight.settings import normal_locale
from daybreak.preflight.tables import Identity, steps_left

DOCS = Path(__file__).parents[2] / "docs" / "checks.md"
REGENERATE = """Put what this prints into docs/checks.md:
python -c 'from daybreak.preflight.run import catalogue; print(catalogue())'"""


def test_the_documentation_lists_every_check() -> None:
    assert catalogue() in DOCS.read_text(), REGENERATE


def test_every_check_says_what_it_is_for_and_has_an_id_of_its_own() -> None:
    assert all(check.__doc__ for check in CHECKS)
    ids = [check_id(check) for check in CHECKS]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ('FATAL:  password authentication failed for user "daybreak"', "\\password daybreak"),
        ("fe_sendauth: no password supplied", "env:NAME"),
        ('FATAL:  no pg_hba.conf entry for host "::1", user "daybreak"', "pg_hba.conf"),
        ('FATAL:  role "daybreak" does not exist', "CREATE ROLE daybreak LOGIN"),
        ('FATAL:  database "shop" does not exist', "CREATE DATABASE shop"),
        ("SSL error: certificate verify failed", "sslrootcert"),
        ("server does not support SSL, but SSL was required", "sslmode"),
        ("FATAL:  sorry, too many clients already", "max_connections"),
        ("something quite new", "firewalls"),
    ],
)
def test_what_to_do_about_a_failed_connection(message: str, fix: str) -> None:
    found = connect_fix(message, Side.SOURCE, {"user": "daybreak", "dbname": "shop", "password": "secret"})
    assert fix in found
    assert "secret" not in found


ROLE = "daybreak_payments_repl"
PREFIX = "could not connect to the publisher: connection to server at"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (f'{PREFIX} "db", port 5432 failed: FATAL:  password authentication failed for user "{ROLE}"', None),
        # A server that speaks another language has been reached as well.
        (f'{PREFIX} »db«: FATAL:  Passwort-Authentifizierung für Benutzer »"{ROLE}"« fehlgeschlagen', None),
        (f'{PREFIX} "db": FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "{ROLE}"', "refuses"),
        (f'{PREFIX} "db": FATAL:  role "{ROLE}" does not exist', "without asking for a password"),
        ("no password was asked for", "without asking for a password"),
        (f'{PREFIX} "db", port 1 failed: Connection refused', "does not reach"),
        ("could not translate host name", "does not reach"),
        (f"{PREFIX}: FATAL:  number of requested standby connections exceeds max_wal_senders (currently 0)", None),
    ],
)
def test_what_the_answer_to_a_login_attempt_shows(answer: str, expected: str | None) -> None:
    found = judge_answer(answer, Side.SOURCE, ROLE)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found.object == "target to source"
        assert expected in found.message


@pytest.mark.parametrize(
    ("identity", "reason", "fix"),
    [
        (("d", None, False, False, False, None), "no primary key", "REPLICA IDENTITY FULL"),
        (
            ("d", None, False, False, False, "u"),
            "no primary key",
            'ALTER TABLE "s"."t" REPLICA IDENTITY USING INDEX "u";',
        ),
        (("n", None, False, False, False, "pk"), "NOTHING", 'USING INDEX "pk"'),
        (("i", None, False, False, False, None), "gone", "FULL"),
        (("i", "u", False, True, False, None), "invalid", 'REINDEX INDEX CONCURRENTLY "s"."u";'),
        (("d", "pk", True, False, False, None), "DEFERRABLE", "FULL"),
        (("d", "pk", True, True, True, None), "generated", "FULL"),
    ],
)
def test_why_an_identity_is_none(
    identity: tuple[str, str | None, bool, bool, bool, str | None], reason: str, fix: str
) -> None:
    found = Identity(TableName("s", "t"), *identity).problem()
    assert reason in found[0]
    assert fix in found[1]


def _sequence(last: int | None, increment: int = 1, cycle: bool = False) -> SequenceValue:
    return SequenceValue("s", "q", last, increment, -100, 100, cycle, 1)


def test_how_long_a_sequence_lasts() -> None:
    assert steps_left(_sequence(90)) == 10
    assert steps_left(_sequence(90, increment=7)) == 1
    assert steps_left(_sequence(90, increment=-10)) == 19
    assert steps_left(_sequence(100)) == 0
    assert steps_left(_sequence(90, cycle=True)) is None
    assert steps_left(_sequence(None)) is None


def test_locales_are_compared_by_meaning() -> None:
    assert normal_locale("en_US.UTF-8") == normal_locale("en_US.utf8")
    assert normal_locale("POSIX") == normal_locale("C")
    assert normal_locale("C.UTF-8") != normal_locale("C")
    assert normal_locale(None) == "none"


def test_names_in_statements_are_quoted() -> None:
    assert statement("DROP ROLE {};", 'a"b') == 'DROP ROLE "a""b";'


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(n) for n in range(9)]) == "0, 1, 2, 3, 4 and 4 more"
