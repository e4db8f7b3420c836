"""The application's ledger: how outcomes are told apart, gaps measured, and a database judged."""

from __future__ import annotations

from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from daybreak.lab.ledger import ClientLog, Ledger, Outcome, Row, classify

PLAIN, DOCUMENT, EVENT = UUID(int=5), UUID(int=10), UUID(int=11)


def row(key: UUID, entries: int = 2, intact: bool = True, events: int | None = None, logged: int | None = None) -> Row:
    expected = int(key == EVENT)
    return Row(key, entries, 0, intact, expected if events is None else events, expected if logged is None else logged)


def acknowledged(*keys: UUID) -> Ledger:
    log = ClientLog(0)
    for number, key in enumerate(keys):
        log.attempt(key)
        log.acknowledge(float(number))
    return Ledger([log])


@pytest.mark.parametrize(
    ("error", "committing", "outcome"),
    [
        (errors.ReadOnlySqlTransaction(), False, Outcome.REFUSED),
        (psycopg.OperationalError("could not connect"), False, Outcome.REFUSED),
        (errors.AdminShutdown(), False, Outcome.REFUSED),
        (errors.ReadOnlySqlTransaction(), True, Outcome.REFUSED),
        (errors.ForeignKeyViolation(), True, Outcome.REFUSED),
        (errors.QueryCanceled(), True, Outcome.REFUSED),
        (psycopg.OperationalError("server closed the connection unexpectedly"), True, Outcome.AMBIGUOUS),
        (psycopg.InterfaceError("the connection is lost"), True, Outcome.AMBIGUOUS),
        (errors.AdminShutdown(), True, Outcome.AMBIGUOUS),
        (errors.CrashShutdown(), True, Outcome.AMBIGUOUS),
        (errors.ProtocolViolation(), True, Outcome.AMBIGUOUS),
    ],
)
def test_only_a_commit_without_an_answer_is_ambiguous(error: psycopg.Error, committing: bool, outcome: Outcome) -> None:
    assert classify(error, committing) is outcome


def test_everything_in_its_place_is_clean() -> None:
    report = acknowledged(PLAIN, DOCUMENT, EVENT).judge([row(PLAIN), row(DOCUMENT), row(EVENT)], 0)
    assert report.clean
    assert (report.acknowledged, report.errors) == (3, 0)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(EVENT, entries=1)],
        [row(EVENT, intact=False)],
        [row(EVENT, events=0, logged=0)],
        [row(EVENT, logged=0)],
    ],
)
def test_an_acknowledged_write_that_is_missing_or_incomplete_is_lost(rows: list[Row]) -> None:
    report = acknowledged(EVENT).judge(rows, 0)
    assert (report.lost, report.duplicated, report.clean) == (1, 0, False)


@pytest.mark.parametrize(
    "rows",
    [
        [row(EVENT), row(EVENT)],
        [row(EVENT, entries=4)],
        [row(EVENT, events=2, logged=2)],
        [row(EVENT, logged=2)],
    ],
)
def test_a_write_that_is_there_twice_is_duplicated(rows: list[Row]) -> None:
    report = acknowledged(EVENT).judge(rows, 0)
    assert (report.lost, report.duplicated, report.clean) == (0, 1, False)


def test_an_ambiguous_write_may_be_there_or_not_but_not_by_half() -> None:
    log = ClientLog(0)
    log.attempt(PLAIN)
    log.fail(psycopg.OperationalError("lost"), True, 1.0)
    log.fail(errors.ReadOnlySqlTransaction(), False, 2.0)
    ledger = Ledger([log])
    assert ledger.judge([], 0).clean
    assert ledger.judge([row(PLAIN)], 0).clean
    assert ledger.judge([row(PLAIN, entries=1)], 0).lost == 1
    report = ledger.judge([], 0)
    assert (report.acknowledged, report.ambiguous, report.refused, report.errors) == (0, 1, 1, 2)


def test_a_refused_write_must_not_be_there() -> None:
    log = ClientLog(0)
    log.attempt(PLAIN)
    log.fail(errors.ReadOnlySqlTransaction(), False, 1.0)
    report = Ledger([log]).judge([row(PLAIN)], 0)
    assert (report.unknown, report.clean) == (1, False)


def test_a_new_write_starts_without_doubt() -> None:
    log = ClientLog(0)
    log.attempt(PLAIN)
    log.fail(psycopg.OperationalError("lost"), True, 1.0)
    log.acknowledge(2.0)
    log.attempt(DOCUMENT)
    assert Ledger([log]).judge([row(PLAIN), row(DOCUMENT)], 0).unknown == 1


def test_money_that_came_or_went_is_not_clean() -> None:
    assert not acknowledged(PLAIN).judge([row(PLAIN)], 1).clean


def test_the_gap_is_over_all_clients_and_reaches_past_the_window() -> None:
    first, second = ClientLog(0), ClientLog(1)
    for log, times in ((first, (1.0, 2.0, 5.0)), (second, (1.5, 2.5, 5.5))):
        for at in times:
            log.attempt(PLAIN)
            log.acknowledge(at)
    ledger = Ledger([first, second])
    assert ledger.gap_ms(1.0, 5.5) == 2500
    assert ledger.gap_ms(3.0, 4.0) == 2500
    assert ledger.gap_ms(1.0, 2.0) == 500
    assert ledger.gap_ms(5.5, 9.5) == 4000
    assert Ledger([]).gap_ms(1.0, 3.0) == 2000


def test_failures_can_be_asked_for_by_time() -> None:
    log = ClientLog(7)
    log.attempt(PLAIN)
    log.fail(errors.ReadOnlySqlTransaction("closed\nCONTEXT: guard"), False, 1.0)
    log.fail(errors.ReadOnlySqlTransaction("closed"), False, 3.0)
    (failure,) = Ledger([log]).failures(0.5, 2.0)
    assert (failure.client, failure.sqlstate, failure.message) == (7, "25006", "closed")
