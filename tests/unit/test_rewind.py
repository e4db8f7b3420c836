"""The plan of a rewind: what may be asked for, what is made, and that nothing is promised that AWS doesn't say."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daybreak import rewind
from daybreak.aws.rds import Capacity, Cluster, Instance
from daybreak.config.names import BACKUP_TAG, Names
from daybreak.errors import ConfigError, Refused
from daybreak.rewind import RewindPlan, Step

NOW = datetime(2026, 7, 29, 12, tzinfo=UTC)
AT = NOW - timedelta(hours=5)
NAMES = Names("payments", "prod")
CLUSTER = Cluster(
    identifier="daybreak-payments-aurora-prod",
    status="available",
    created=NOW - timedelta(days=30),
    endpoint="aurora.example.net",
    port=5432,
    engine="aurora-postgresql",
    earliest=NOW - timedelta(days=7),
    latest=NOW - timedelta(minutes=4),
    backup_days=7,
    subnet_group="daybreak-payments-aurora-prod",
    security_groups=("sg-1", "sg-2"),
    kms_key="arn:aws:kms:eu-central-1:123456789012:key/data",
    secrets_key="arn:aws:kms:eu-central-1:123456789012:key/secrets",
    capacity=Capacity(0.5, 2.0),
    iam_authentication=True,
    writer="daybreak-payments-aurora-0-prod",
    readers=("daybreak-payments-aurora-1-prod",),
    tags=(("Owner", "payments team"), (BACKUP_TAG, "daybreak-payments-backup-prod")),
)
WRITER = Instance("daybreak-payments-aurora-0-prod", "available", "db.serverless", "arn:key", 60, "arn:role")


def _plan(at: datetime | None = AT, cluster: Cluster = CLUSTER) -> RewindPlan:
    return rewind.plan(cluster, WRITER, NAMES, "eu-central-1", at, NOW)


def _commands(steps: tuple[Step, ...]) -> list[str]:
    return [one for step in steps for one in step.commands]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-07-29T07:00:00Z", AT),
        ("2026-07-29T09:00:00+02:00", AT),
        (" 2026-07-29 07:00Z ", AT),
        ("2026-07-28T23:00-08:00", AT),
    ],
)
def test_a_time_is_read_with_its_zone(text: str, expected: datetime) -> None:
    assert rewind.moment(text) == expected
    assert rewind.moment(rewind.shown(expected)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-07-29T07:00:00", "no time zone"),
        ("2026-07-29", "no time zone"),
        ("yesterday", "is no time"),
        ("-2h", "is no time"),
        ("", "is no time"),
        ("2026-07-29T07:00:00.5Z", "finer than a second"),
        ("2026-07-32T07:00:00Z", "is no time"),
    ],
)
def test_a_time_that_could_be_mistaken_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        rewind.moment(text)


@pytest.mark.parametrize("at", [CLUSTER.earliest, AT, CLUSTER.latest])
def test_the_window_includes_both_ends(at: datetime) -> None:
    rewind.check_window(CLUSTER, at, NOW)


@pytest.mark.parametrize(
    ("at", "reason", "hint"),
    [
        (NOW + timedelta(seconds=1), "in the future", "2026-07-29T11:56:00Z"),
        (NOW - timedelta(minutes=1), "not in the backups .* yet", "--clone"),
        (NOW - timedelta(days=8), "not in the backups .* any more", "kept for 7 days"),
    ],
)
def test_a_time_outside_the_window_is_refused_with_the_window(at: datetime, reason: str, hint: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        rewind.check_window(CLUSTER, at, NOW)
    assert hint in refused.value.hint
    assert "2026-07-22T12:00:00Z up to 2026-07-29T11:56:00Z" in refused.value.hint


def test_a_cluster_without_backups_is_refused() -> None:
    with pytest.raises(Refused, match="no backup yet"):
        rewind.check_window(replace(CLUSTER, earliest=None, latest=None), AT, NOW)


def test_a_restore_is_made_like_the_original() -> None:
    made = _plan().restoration
    assert made.source == CLUSTER.identifier
    assert made.at == AT
    for name in ("port", "subnet_group", "security_groups", "kms_key", "capacity", "iam_authentication"):
        assert getattr(made, name) == getattr(CLUSTER, name)
    assert _plan().instance.like == WRITER


def test_its_server_starts_no_apply_workers() -> None:
    assert _plan().restoration.parameter_group == "daybreak-payments-rewind-prod"
    in_use = [one for one in _commands(_plan().afterwards) if "--db-cluster-parameter-group-name" in one]
    assert len(in_use) == 1
    assert "daybreak-payments-aurora-prod" in shlex.split(in_use[0])


def test_a_copy_is_not_backed_up_as_the_original() -> None:
    tags = dict(_plan().restoration.tags)
    assert tags == {"Owner": "payments team", "daybreak-rewind-of": CLUSTER.identifier}
    assert dict(_plan().instance.tags) == tags


def test_names_follow_from_what_is_asked_and_keep_to_the_limits_of_aws() -> None:
    assert _plan().restoration.identifier == "payments-rewind-20260729t070000z-prod"
    assert _plan().instance.identifier == "payments-rewind-20260729t070000z-0-prod"
    assert _plan(None).restoration.identifier == "payments-clone-prod"
    long = Names("a" * 31, "environment1")
    found = {rewind.new_name(long, AT + timedelta(seconds=n), e) for n in range(60) for e in ("", "-0")}
    assert len(found) == 120
    assert all(len(name) <= 63 and name.endswith("-environment1") and "--" not in name for name in found)


def test_the_original_is_not_touched_by_any_command() -> None:
    for at in (AT, None):
        found = _plan(at)
        for line in _commands(found.steps) + _commands(found.afterwards):
            words = shlex.split(line)
            named = [words[n + 1] for n, word in enumerate(words) if word in _TOUCHING]
            assert CLUSTER.identifier not in named
            assert CLUSTER.writer not in words


_TOUCHING = ("--db-cluster-identifier", "--db-instance-identifier")


def test_the_commands_of_a_restore_and_a_clone() -> None:
    restore = shlex.split(_plan().steps[0].commands[0])
    assert restore[:5] == ["aws", "rds", "restore-db-cluster-to-point-in-time", "--region", "eu-central-1"]
    assert restore[restore.index("--restore-to-time") + 1] == "2026-07-29T07:00:00+00:00"
    assert restore[restore.index("--vpc-security-group-ids") + 1 :][:2] == ["sg-1", "sg-2"]
    assert "--enable-iam-database-authentication" in restore
    assert '{"MinCapacity": 0.5, "MaxCapacity": 2.0}' in restore
    clone = shlex.split(_plan(None).steps[0].commands[0])
    assert clone[clone.index("--restore-type") + 1] == "copy-on-write"
    assert "--use-latest-restorable-time" in clone
    assert "--restore-to-time" not in clone


def test_what_is_lost_and_what_stays_is_said() -> None:
    assert "lacks everything committed after 2026-07-29T07:00:00Z" in _plan().lost
    assert _plan(None).lost.startswith("Nothing")
    assert CLUSTER.identifier in _plan().stays


def test_less_than_the_promised_hours_is_said() -> None:
    assert _plan().warnings == ()
    young = replace(CLUSTER, earliest=NOW - timedelta(hours=6))
    assert "72 hours back are not reached yet" in _plan(cluster=young).warnings[0]
    short = replace(CLUSTER, backup_days=1)
    assert "less than 72 hours" in _plan(cluster=short).warnings[0]
    assert _plan(None, young).warnings == ()


def test_a_class_of_instances_has_no_scaling() -> None:
    found = _plan(cluster=replace(CLUSTER, capacity=None))
    assert "--serverless-v2-scaling-configuration" not in " ".join(_commands(found.steps))


@pytest.mark.parametrize("status", ["failed", "cloning-failed", "incompatible-network", "restore-error", "deleting"])
def test_a_status_that_never_passes_ends_the_waiting(status: str) -> None:
    assert rewind.has_failed(status)
    assert not rewind.is_ready(status)


@pytest.mark.parametrize(
    "status", ["creating", "backing-up", "configuring-enhanced-monitoring", "modifying", "available"]
)
def test_the_others_pass(status: str) -> None:
    assert not rewind.has_failed(status)
