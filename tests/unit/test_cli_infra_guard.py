"""What ``daybreak infra`` refuses to lose, whom it asks before, and what it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from infra_world import (
    CONFIG,
    ENDPOINT,
    GONE,
    KEY,
    LOST,
    MADE,
    OTHER_KEY,
    READER,
    SECRETS,
    STOPPED,
    TABLE,
    TASK,
    VAULT,
    Imaginary,
    ImaginaryTerraform,
    imaginary,
)

from daybreak.errors import Refused
from daybreak.infra import guard
from daybreak.infra.guard import Standing
from daybreak.infra.plan import Change, Plan
from daybreak.model import MigrationRecord, Phase, Side, Switchover
from daybreak.store.sqlite import SqliteStateStore


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Imaginary:
    """See ``imaginary``."""
    return imaginary(tmp_path, monkeypatch)


def test_destroy_refuses_while_in_use_unless_told_by_name(run: Imaginary) -> None:
    run.published = Standing("SSM", "streaming", "source")
    assert "the migration is streaming" in run.json("destroy", "--yes", code=1)["error"]["message"]
    run.published = Standing("SSM", "finished", "target")
    assert "takes the application's writes" in run.json("destroy", "--yes", code=1)["error"]["message"]
    assert run.json("destroy", "--yes", "--even-while-active", "invoices", code=2)
    assert "apply" not in run.done
    run.done.clear()
    assert run.json("destroy", "--yes", "--even-while-active", "payments") == {"destroyed": 1, "kept_keys": []}
    assert run.done == ["init", "plan to destroy", "apply"]


def test_destroy_believes_the_record_beside_the_configuration(run: Imaginary) -> None:
    recorded(run, Phase.LOADING, Side.SOURCE)
    assert "payments.db" in run.json("destroy", "--yes", code=1)["error"]["message"]
    assert "apply" not in run.done


def test_a_record_is_found_from_the_configuration_wherever_one_is(
    run: Imaginary, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.config.write_text(CONFIG.replace("[aws]", '[state]\nurl = "sqlite:///records/mine.db"\n[aws]'))
    loading(run.directory / "records" / "mine.db")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert "mine.db" in run.json("destroy", "--yes", code=1)["error"]["message"]


def loading(path: Path) -> None:
    """A record of a migration that loads."""
    write(path, MigrationRecord(name="payments", phase=Phase.LOADING, primary=Side.SOURCE))


def recorded(run: Imaginary, phase: Phase, primary: Side, last: Switchover | None = None) -> None:
    """A record where the configuration has it by default."""
    record = MigrationRecord(name="payments", phase=phase, primary=primary, last_switchover=last)
    write(run.directory / ".daybreak" / "payments.db", record)


def write(path: Path, record: MigrationRecord) -> None:
    SqliteStateStore(path).compare_and_swap(record, 0, "test", None, datetime(2026, 1, 1, tzinfo=UTC), "")


# side, owner, generation, closed_by, opened_by
@pytest.mark.parametrize(
    ("servers", "held", "said"),
    [
        ({Side.SOURCE: ("source", "ada", 3, 0, 0)}, (), "the migration is under way (control row on the source)"),
        ({Side.SOURCE: ("source", "", 0, 1, 0)}, (), "takes the application's writes (control row on the source)"),
        ({Side.TARGET: ("target", "ada", 3, 0, 0)}, (), "the migration is under way (control row on the target)"),
        ({Side.TARGET: ("target", "ada", 3, 0, 1)}, (), "takes the application's writes (control row on the target)"),
        (
            {Side.SOURCE: None, Side.TARGET: None},
            ((1, 2, "table", "public.t", "public", "o"),),
            "led from elsewhere (1 objects on the target)",
        ),
        ({}, (), "no server answers that would know: source: connecting as daybreak: timed out"),
    ],
)
def test_from_another_checkout_the_servers_are_asked(
    run: Imaginary, servers: dict[Side, tuple[object, ...] | None], held: tuple[tuple[object, ...], ...], said: str
) -> None:
    run.reached()
    run.plan, run.servers, run.held = Plan((GONE,), outputs=False), servers, held
    run.published = Standing("SSM", "planned", "source")
    error = run.json("destroy", "--yes", code=1)["error"]
    assert said in error["message"]
    assert "--even-while-active payments" in error["hint"]
    assert "apply" not in run.done
    assert run("destroy", "--yes", "--even-while-active", "payments").exit_code == 0


def test_servers_without_a_trace_let_it_go(run: Imaginary) -> None:
    run.plan = Plan((GONE,), outputs=False)
    run.untouched()
    assert run.json("destroy", "--yes")["destroyed"] == 1


@pytest.mark.parametrize("verb", ["destroy", "deploy"])
def test_a_source_without_a_trace_does_not_speak_for_the_cluster(run: Imaginary, verb: str) -> None:
    """After `finish --unfence` nothing is left on the source, and all data is in the cluster."""
    run.plan, run.published = Plan((GONE if verb == "destroy" else LOST,), outputs=False), None
    run.servers = {Side.SOURCE: None}
    assert "target: Field required" in run.json(verb, "--yes", code=1)["error"]["message"]
    run.reached()
    error = run.json(verb, "--yes", code=1)["error"]
    assert "would know: target: connecting as daybreak: timed out" in error["message"]
    assert "reach the target" in error["hint"]
    assert "apply" not in run.done
    run.servers = {Side.TARGET: None}
    assert run(verb, "--yes").exit_code == 0


def test_without_a_cluster_the_source_is_enough(run: Imaginary) -> None:
    run.plan = Plan((TABLE, KEY), outputs=False)
    assert "Nobody can tell" in run.json("destroy", "--yes", code=1)["error"]["message"]
    run.servers = {Side.SOURCE: None}
    assert run.json("destroy", "--yes")["destroyed"] == 1


def test_what_a_failed_first_deploy_made_may_go(run: Imaginary) -> None:
    """Keys and secrets alone, or a cluster that never came up: nobody has to be asked, and nobody answers."""
    half_made = "an interrupted or failed run left it half-made"
    run.config.write_text(CONFIG.replace('"prod"', '"test"'))
    run.plan = Plan((OTHER_KEY, *SECRETS, replace(GONE, why=half_made, snapshot=False)), outputs=False)
    assert run.json("destroy", "--yes")["destroyed"] == 4


def test_a_record_at_rest_is_enough_where_no_server_answers(run: Imaginary) -> None:
    recorded(run, Phase.ABORTED, Side.SOURCE)
    run.plan = Plan((GONE,), outputs=False)
    assert run.json("destroy", "--yes")["destroyed"] == 1


def test_the_record_in_the_table_is_read_itself(run: Imaginary) -> None:
    run.config.write_text(CONFIG.replace("[aws]", '[state]\nurl = "dynamodb://records"\n[aws]'))
    run.plan, run.published = Plan((GONE,), outputs=False), Standing("SSM", "planned", "source")
    run.table = MigrationRecord(name="payments", phase=Phase.STREAMING, primary=Side.SOURCE)
    assert "is streaming (dynamodb://records)" in run.json("destroy", "--yes", code=1)["error"]["message"]
    run.table = refused_by_aws("AccessDeniedException")
    assert "Nobody can tell" in run.json("destroy", "--yes", code=1)["error"]["message"]
    run.table = refused_by_aws("ResourceNotFoundException")
    assert "no server answers" in run.json("destroy", "--yes", code=1)["error"]["message"]
    assert "apply" not in run.done
    run.table = None
    assert run.json("destroy", "--yes")["destroyed"] == 1, "nobody began it: the table would say so"


def refused_by_aws(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "GetItem")


def test_deploy_does_not_lose_what_a_migration_needs(run: Imaginary) -> None:
    run.plan = Plan((MADE, LOST), outputs=False)
    assert "Nobody can tell" in run.json("deploy", "--yes", code=1)["error"]["message"]
    run.published = Standing("SSM", "finished", "target")
    assert "takes the application's writes" in run.json("deploy", "--yes", code=1)["error"]["message"]
    run.published = None
    loading(run.directory / ".daybreak" / "payments.db")
    assert "is loading" in run.json("deploy", "--yes", code=1)["error"]["message"]
    assert "apply" not in run.done
    assert run("deploy", "--yes", "--even-while-active", "payments").exit_code == 0
    run.plan = Plan((MADE,), outputs=False)
    assert run("deploy", "--yes").exit_code == 0, "what loses nothing may be applied in the middle"


def test_readers_may_go_in_the_middle_and_the_writer_not_silently(run: Imaginary) -> None:
    """What docs/infrastructure/costs.md has people do: `aws.aurora.readers = 0`."""
    run.plan, run.published = Plan((READER,), outputs=False), Standing("SSM", "streaming", "source")
    assert "all it holds" not in run("plan").stdout
    result = run("deploy")
    assert "GONE FOR GOOD" not in result.stderr
    assert run("deploy", "--yes").exit_code == 0
    run.plan = Plan((replace(READER, action="replace", writer=True),), outputs=False)
    assert "takes the writes, and is deleted and made anew" in run("plan").stdout
    assert "WRITES FAIL MEANWHILE: aws_rds_cluster_instance.one" in run("deploy").stderr


def test_what_a_failed_run_left_half_made_holds_nothing(run: Imaginary) -> None:
    half_made = "an interrupted or failed run left it half-made"
    run.plan = Plan((replace(LOST, why=half_made),), outputs=False)
    assert run("deploy", "--yes").exit_code == 0


@pytest.mark.parametrize("change", [TASK, STOPPED, ENDPOINT])
def test_the_task_of_dms_is_not_lost_or_stopped_before_the_hand_over(run: Imaginary, change: Change) -> None:
    run.plan, run.published = Plan((change,), outputs=False), Standing("SSM", "streaming", "source")
    error = run.json("deploy", "--yes", code=1)["error"]
    assert "the migration is streaming (SSM)" in error["message"]
    assert "`daybreak start`" in error["hint"]
    assert "apply" not in run.done
    assert run("deploy", "--yes", "--even-while-active", "payments").exit_code == 0
    run.published = Standing("SSM", "streaming", "target")
    assert run("deploy", "--yes").exit_code == 0


_BEGUN = Switchover(2, Side.SOURCE, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("last", "row", "refused"),
    [
        (_BEGUN, None, False),
        (replace(_BEGUN, backed_out="too slow", outcome="backed out: too slow"), None, False),
        (replace(_BEGUN, to=Side.TARGET, backed_out="too slow", outcome="backed out: too slow"), None, True),
        (None, ("source", "ada", 3, 1, 2), False),
        (None, ("source", "ada", 3, 0, 0), True),
    ],
)
def test_after_a_rollback_dms_may_be_changed_and_after_a_cutover_that_backed_out_not(
    run: Imaginary, last: Switchover | None, row: tuple[object, ...] | None, refused: bool
) -> None:
    recorded(run, Phase.STREAMING, Side.SOURCE, last)
    run.plan, run.servers = Plan((STOPPED,), outputs=False), {Side.SOURCE: row}
    assert (run("deploy", "--yes").exit_code == 1) is refused


def test_what_a_running_task_blocks_is_loud(run: Imaginary) -> None:
    run.plan = Plan((ENDPOINT,), outputs=False)
    assert "can't be changed while DMS's task runs" in run("plan").stdout


def test_after_finish_dms_may_go_with_its_secrets(run: Imaginary) -> None:
    """What docs/infrastructure/costs.md has people do: `replication.engine = "native"`."""
    recorded(run, Phase.FINISHED, Side.TARGET)
    run.plan, run.published = Plan((TASK, *SECRETS), outputs=False), Standing("SSM", "finished", "target")
    assert run.json("deploy", "--yes")["plan"]["destroy"] == 3
    run.plan = Plan((TASK, *SECRETS, LOST), outputs=False)
    assert "takes the application's writes" in run.json("deploy", "--yes", code=1)["error"]["message"]


def test_a_task_that_is_stopped_is_loud(run: Imaginary) -> None:
    run.plan = Plan((STOPPED,), outputs=False)
    assert "STOPPED until `daybreak start`: aws_dms_replication_task.one" in run("deploy").stderr
    assert "is stopped, and streams no more until `daybreak start`" in run("plan").stdout
    assert run.json("plan")["changes"][0]["stops"] is True


def test_the_key_of_what_is_left_stays(run: Imaginary) -> None:
    run.plan = Plan((GONE, KEY, OTHER_KEY), outputs=False)
    run.untouched()
    result = run("destroy", "--yes")
    assert result.exit_code == 0, result.output
    assert "aws kms schedule-key-deletion --key-id 1234-abcd --region eu-central-1" in result.stdout
    assert run.done == ["init", "plan to destroy", f"forget {KEY.address}", "plan to destroy", "apply"]
    assert run.applied == Plan((GONE, OTHER_KEY), outputs=False)
    run.plan = Plan((GONE, KEY), outputs=False)
    assert run.json("destroy", "--yes")["kept_keys"] == ["1234-abcd"]


def test_a_second_end_does_not_say_that_nothing_is_left(run: Imaginary) -> None:
    """The first one was interrupted after Terraform had forgotten the key."""
    run.plan = Plan((), outputs=False)
    found = run("destroy", "--yes").stdout
    assert "Nothing is left" not in found
    assert "--tag-filters Key=daybreak:migration,Values=payments Key=daybreak:environment,Values=prod" in found
    run.config.write_text(CONFIG.replace('"prod"', '"test"'))
    assert "Nothing is left" in run("destroy", "--yes").stdout
    run.config.write_text(run.config.read_text() + "aurora.final_snapshot = true\n")
    assert "Nothing is left" not in run("destroy", "--yes").stdout


def test_without_a_snapshot_in_an_environment_for_trying_no_key_stays(run: Imaginary) -> None:
    run.config.write_text(CONFIG.replace('"prod"', '"test"'))
    run.plan = Plan((replace(GONE, snapshot=False), KEY), outputs=False)
    run.untouched()
    assert run.json("destroy", "--yes") == {"destroyed": 2, "kept_keys": []}


def test_what_changes_between_question_and_answer_ends_it(run: Imaginary, monkeypatch: pytest.MonkeyPatch) -> None:
    run.plan = Plan((GONE, KEY), outputs=False)
    run.untouched()
    monkeypatch.setattr(ImaginaryTerraform, "forget", lambda _self, _address: None)
    error = run.json("destroy", "--yes", code=1)["error"]
    assert error["kind"] == "state-conflict"
    assert f"terraform -chdir=/stack import {KEY.address} {KEY.id}" in error["hint"]
    assert "apply" not in run.done


def test_a_vault_with_backups_is_refused_before_anything_goes(run: Imaginary) -> None:
    run.plan, run.backups = Plan((GONE, VAULT, KEY), outputs=False), 3
    run.untouched()
    error = run.json("destroy", "--yes", code=1)["error"]
    assert "holds 3 backups" in error["message"]
    assert "state rm aws_backup_vault.one" in error["hint"]
    assert "aws backup delete-recovery-point --backup-vault-name backup" in error["hint"]
    assert run.done == ["init", "plan to destroy"]
    run.backups = 0
    assert run.json("destroy", "--yes")["destroyed"] == 2


def test_destroy_where_nobody_knows(run: Imaginary, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_parameter: str, _session: object) -> None:
        raise Refused("Nobody can tell whether the stack is in use: denied", "Allow it.")

    monkeypatch.setattr(guard, "published", unknown)
    assert run.json("destroy", "--yes", code=1)["error"]["hint"] == "Allow it."
    assert "apply" not in run.done
