"""Estimates of the time that is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybreak.postgres.rate import Rate


def test_a_steady_counter_is_extrapolated() -> None:
    rate = Rate(1000)
    answers = [rate.eta_seconds(second, second * 10) for second in range(11)]
    assert answers[-1] == pytest.approx(90.0)


def test_it_says_nothing_at_first_and_nothing_while_all_stands_still() -> None:
    rate = Rate(1000)
    assert rate.eta_seconds(0.0, 0) is None
    assert rate.eta_seconds(0.5, 100) is None
    still = Rate(1000)
    assert [still.eta_seconds(second, 0) for second in range(20)] == [None] * 20


def test_nothing_left_takes_no_time() -> None:
    assert Rate(10).eta_seconds(0.0, 10) == 0.0


def test_what_was_long_ago_counts_less() -> None:
    rate = Rate(100_000)
    for second in range(60):
        rate.eta_seconds(second, second * 1000)
    answers = [rate.eta_seconds(60 + second, 60_000 + second * 10) for second in range(120)]
    assert answers[-1] is not None
    assert answers[-1] > 1000  # at the first rate it would have been about 40


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**15)), max_size=30))
def test_whatever_it_sees_it_never_answers_nonsense(samples: list[tuple[float, int]]) -> None:
    rate = Rate(10**12)
    for at, done in sorted(samples):
        eta = rate.eta_seconds(at, done)
        assert eta is None or eta >= 0
