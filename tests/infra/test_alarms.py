"""Alarms are red when something is wrong and not otherwise, missing data included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from infra.whole import Engine, Json, resources, settings, synthesised

from daybreak.aws.metrics import PHASE_NUMBER
from daybreak.model import Phase


def _alarms(work: Path, engine: Engine = "native", **aws: Json) -> dict[str, Json]:
    """The alarms by what they are called between migration and environment."""
    stack = synthesised(work, settings(work, engine, aws))
    named = (one for kind, one in resources(stack) if kind == "aws_cloudwatch_metric_alarm")
    return {one["alarm_name"].removeprefix("daybreak-payments-").removesuffix("-test"): one for one in named}


class Series:
    """Values over time, None where there is none, under the operators of CloudWatch's metric math.

    CloudWatch user guide, "Using metric math": where only one of two series has a value, the other counts as 0;
    where neither has, or a series is compared with a number, what is missing stays missing."""

    def __init__(self, *values: float | None) -> None:
        self.values = values

    def _with(self, other: object, operate: Callable[[float, float], float]) -> Series:
        if not isinstance(other, Series):
            number = float(str(other))
            return Series(*(None if one is None else operate(one, number) for one in self.values))
        pairs = zip(self.values, other.values, strict=True)
        return Series(*(None if a is None and b is None else operate(a or 0, b or 0) for a, b in pairs))

    def __eq__(self, other: object) -> Series:  # type: ignore[override]
        return self._with(other, lambda a, b: a == b)

    def __gt__(self, other: object) -> Series:
        return self._with(other, lambda a, b: a > b)

    def __or__(self, other: object) -> Series:
        return self._with(other, lambda a, b: bool(a or b))

    def __add__(self, other: object) -> Series:
        return self._with(other, lambda a, b: a + b)

    __hash__ = None  # type: ignore[assignment]


def _red(alarm: Json, **series: Series) -> bool:
    """Whether ``alarm`` is red after these periods, by its own expression, threshold and view of missing data."""
    (judged,) = (one for one in alarm["metric_query"] if one.get("return_data"))
    assert {one["id"] for one in alarm["metric_query"]} == {"judged", *series}
    result: Any = eval(judged["expression"].replace(" OR ", " | "), {}, dict(series))
    assert alarm["comparison_operator"] == "GreaterThanThreshold"
    assert alarm["treat_missing_data"] == "notBreaching"
    latest = result.values[-alarm["evaluation_periods"] :]
    breaching = sum(one is not None and one > alarm["threshold"] for one in latest)
    return bool(breaching >= alarm["datapoints_to_alarm"])


def _in(phase: Phase, periods: int = 2) -> Series:
    return Series(*[float(PHASE_NUMBER[phase])] * periods)


@pytest.mark.parametrize(
    ("phase", "reports", "red"),
    [
        (Series(None, None), Series(None, None), False),  # no migration
        (_in(Phase.STREAMING), Series(5, 5), False),
        (_in(Phase.STREAMING), Series(None, None), True),
        (_in(Phase.STREAMING), Series(5, None), False),  # a single gap
        (_in(Phase.STREAMING, 1), Series(None), False),  # not for long yet
        (_in(Phase.SWITCHING), Series(None, None), True),
        (_in(Phase.LOADING), Series(None, None), False),
        (_in(Phase.FINISHED), Series(None, None), False),
    ],
)
def test_a_stream_without_a_lag_is_red_and_an_idle_stack_is_not(
    tmp_path: Path, phase: Series, reports: Series, red: bool
) -> None:
    assert _red(_alarms(tmp_path)["lag-missing"], phase=phase, reports=reports) is red


@pytest.mark.parametrize(
    ("wakes", "reports", "red"),
    [
        (Series(None, None), Series(None, None), False),  # nobody wakes it: no migration
        (Series(5, 5, 5, 5), Series(5, 4, 5, 5), False),
        (Series(5, 5, 5, 5), Series(None, None, None, 1), False),  # a quarter of an hour: the longest run
        (Series(5, 5, 5, 5), Series(None, None, None, None), True),
        (Series(None, None), Series(3, 3), False),  # a command on some machine reports
    ],
)
def test_a_controller_that_is_woken_and_says_nothing_is_red(
    tmp_path: Path, wakes: Series, reports: Series, red: bool
) -> None:
    assert _red(_alarms(tmp_path)["controller-silent"], wakes=wakes, reports=reports) is red


@pytest.mark.parametrize("minutes", [1, 2, 3, 4, 5])
def test_silence_is_longer_than_any_run_and_the_wait_for_the_next(tmp_path: Path, minutes: int) -> None:
    """In a time of that length at most so many whole periods fit."""
    alarm = _alarms(tmp_path, controller={"poll_minutes": minutes})["controller-silent"]
    (period,) = {one["metric"]["period"] for one in alarm["metric_query"] if "metric" in one}
    assert alarm["datapoints_to_alarm"] * period > 15 * 60 + minutes * 60


def test_refused_starts_are_red_only_after_more_than_two_of_the_longest_runs(tmp_path: Path) -> None:
    """Lambda tries again what was refused, so behind a long run there are refusals in a healthy migration."""
    alarm = _alarms(tmp_path)["controller-throttles"]
    assert alarm["datapoints_to_alarm"] == alarm["evaluation_periods"]
    assert alarm["evaluation_periods"] * alarm["period"] > 2 * 15 * 60 + 5 * 60


def test_slots_are_measured_by_what_they_and_their_wal_take(tmp_path: Path) -> None:
    alarm = _alarms(tmp_path, watch={"retained_wal_gb": 1})["slot-disk"]
    none_in_use = Series(-1, -1)
    assert not _red(alarm, logs=none_in_use, slots=Series(0, 0))
    assert not _red(alarm, logs=Series(None, None), slots=Series(None, None))
    assert _red(alarm, logs=Series(0.8e9, 0.9e9), slots=Series(0.3e9, 0.3e9))


def test_a_slow_look_widens_the_periods(tmp_path: Path) -> None:
    """A period that is shorter than the time between two looks would have no data, and red for that."""
    alarms = _alarms(tmp_path, controller={"poll_minutes": 5})
    assert alarms["lag"]["period"] == 5 * 60
    assert alarms["controller-silent"]["evaluation_periods"] == 3
    for name in ("lag-missing", "controller-silent"):
        of = [one["metric"]["period"] for one in alarms[name]["metric_query"] if "metric" in one]
        assert of == [10 * 60] * 2
        # CloudWatch API, PutMetricAlarm: what is looked at is a day at most.
        assert of[0] * alarms[name]["evaluation_periods"] <= 86_400


def test_dms_that_says_nothing_is_told_and_not_red(tmp_path: Path) -> None:
    alarms = _alarms(tmp_path, "dms")
    for side in ("source", "target"):
        alarm = alarms[f"dms-latency-{side}"]
        assert alarm["treat_missing_data"] == "missing"
        assert alarm["insufficient_data_actions"] == alarm["alarm_actions"]
        assert alarm["metric_name"] == f"CDCLatency{side.capitalize()}"
        assert set(alarm["dimensions"]) == {"ReplicationInstanceIdentifier", "ReplicationTaskIdentifier"}
        assert alarm["dimensions"]["ReplicationTaskIdentifier"] == "payments-task-test"
    assert not any(name.startswith("dms") for name in _alarms(tmp_path))


def test_connections_are_measured_by_what_the_capacity_allows(tmp_path: Path) -> None:
    """Of 400 at 2 ACU (``Aurora.max_connections``), at their highest."""
    alarms = _alarms(tmp_path)
    alarm = alarms["connections-writer"]
    assert alarm["statistic"] == "Maximum"
    assert alarm["threshold"] == 320
    larger = _alarms(tmp_path, aurora={"max_acu": 16})["connections-writer"]
    assert larger["threshold"] > alarm["threshold"]
    unknown = _alarms(tmp_path, aurora={"instance_class": "db.new.huge"})
    assert not any(name.startswith("connections") for name in unknown)


def test_instances_are_watched_by_their_role(tmp_path: Path) -> None:
    """After a failover the writer is another instance."""
    alarms = _alarms(tmp_path)
    for name in ("cpu", "memory", "connections"):
        assert alarms[f"{name}-writer"]["dimensions"]["Role"] == "WRITER"
        assert alarms[f"{name}-readers"]["dimensions"]["Role"] == "READER"
    alone = _alarms(tmp_path, aurora={"readers": 0})
    assert not any(name.endswith("-readers") for name in alone)


def test_limits_come_from_the_configuration(tmp_path: Path) -> None:
    watch: Json = {"lag_seconds": 5, "retained_wal_gb": 2, "cpu_percent": 50, "runbook_url": "https://wiki.example/db"}
    alarms = _alarms(tmp_path, "dms", watch=watch, dms={"storage_gb": 200})
    assert alarms["lag"]["threshold"] == alarms["dms-latency-target"]["threshold"] == 5
    assert alarms["retained-wal"]["threshold"] == alarms["slot-disk"]["threshold"] == 2e9
    assert alarms["cpu-writer"]["threshold"] == alarms["dms-cpu"]["threshold"] == 50
    assert alarms["dms-storage"]["threshold"] == 20 * 2**30
    assert alarms["dms-storage"]["comparison_operator"] == "LessThanThreshold"
    assert alarms["lag"]["alarm_description"].endswith(" Runbook: https://wiki.example/db#lag")
