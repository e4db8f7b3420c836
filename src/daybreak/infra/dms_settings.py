"""Which tables a DMS task moves, and how it deals with what goes wrong, as the JSON that DMS takes.

DMS's defaults go on where they should stop: a row that cannot be converted is logged and left out, an update
that finds no row is forgotten, a table with an error is suspended while the task stays green, a large object
is cut off at 32 KB. All of that is turned off here: the task stops, and says why. Only keys that differ from
the defaults are written, and only such that DMS reports again, because Terraform's provider compares those
(DMS user guide, "Specifying task settings", "Specifying table selection and transformations rules")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_pascal

from daybreak.errors import ConfigError

# Daybreak's own schema; DMS keeps its tables there too, out of the application's way.
CONTROL_SCHEMA = "daybreak"
# The token tells how far the stream is, so it has to travel with it. The rest of the schema is each
# server's own.
TOKEN_TABLE = "token"
PRIVATE_TABLES = ("control", "route", "done", "table_load", "statement", "awsdms_*")

Stop = Literal["STOP_TASK"]


class _Json(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_pascal, validate_by_name=True)


class TargetMetadata(_Json):
    """Large objects whole, and commits one by one in the source's order."""

    support_lobs: bool = True
    full_lob_mode: bool
    lob_chunk_size: int | None = None
    limited_size_lob_mode: bool
    lob_max_size: int | None = None
    batch_apply_enabled: bool = False


class FullLoadSettings(_Json):
    """Into tables that Daybreak has made, emptied first: what a load that broke off left there would be loaded
    twice. Then the task stops, for keys and indexes are made before any change is applied."""

    target_table_prep_mode: Literal["TRUNCATE_BEFORE_LOAD"] = "TRUNCATE_BEFORE_LOAD"
    stop_task_cached_changes_applied: bool = False
    stop_task_cached_changes_not_applied: bool = True


class Logging(_Json):
    """To CloudWatch Logs; components and severities are DMS's own."""

    enable_logging: bool = True


class ControlTablesSettings(_Json):
    """Where DMS writes about itself on the target, suspended tables included."""

    control_schema: str = CONTROL_SCHEMA
    status_table_enabled: bool = True
    suspended_tables_table_enabled: bool = True


class ErrorBehavior(_Json):
    """Whatever would leave out a row or a table stops the task.

    While the changes made during a table's load are caught up with, some were loaded already: only those
    conflicts are passed over, and validation compares the outcome. What comes from outside (a lost
    connection) is tried again without end; the slot keeps the WAL, and an alarm tells."""

    data_error_policy: Stop = "STOP_TASK"
    data_truncation_error_policy: Stop = "STOP_TASK"
    data_error_escalation_policy: Stop = "STOP_TASK"
    table_error_policy: Stop = "STOP_TASK"
    table_error_escalation_policy: Stop = "STOP_TASK"
    apply_error_delete_policy: Stop = "STOP_TASK"
    apply_error_insert_policy: Stop = "STOP_TASK"
    apply_error_update_policy: Stop = "STOP_TASK"
    apply_error_escalation_policy: Stop = "STOP_TASK"
    apply_error_fail_on_truncation_ddl: bool = True
    fail_on_no_tables_captured: bool = True
    full_load_ignore_conflicts: bool = True
    recoverable_error_count: int = -1


class ChangeProcessingDdlHandlingPolicy(_Json):
    """The target's schema is Daybreak's affair: a DROP TABLE on the source drops nothing there. A TRUNCATE
    has to be noticed, for it stops the task."""

    handle_source_table_dropped: bool = False
    handle_source_table_truncated: bool = True
    handle_source_table_altered: bool = False


class ValidationSettings(_Json):
    """DMS compares every row of both sides; collations of different servers sort differently."""

    enable_validation: bool = True
    handle_collation_diff: bool = True


class TaskSettings(_Json):
    """The settings of a task; ``to_json`` is what DMS takes."""

    target_metadata: TargetMetadata
    full_load_settings: FullLoadSettings = FullLoadSettings()
    logging: Logging = Logging()
    control_tables_settings: ControlTablesSettings = ControlTablesSettings()
    error_behavior: ErrorBehavior = ErrorBehavior()
    change_processing_ddl_handling_policy: ChangeProcessingDdlHandlingPolicy = ChangeProcessingDdlHandlingPolicy()
    validation_settings: ValidationSettings = ValidationSettings()

    def to_json(self) -> str:
        """As JSON, keys as DMS spells them."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


class Locator(BaseModel):
    """Tables by name; ``%``, ``_`` and ``[...]`` are DMS's wildcards."""

    model_config = ConfigDict(frozen=True, alias_generator=lambda name: name.replace("_", "-"), validate_by_name=True)

    schema_name: str
    table_name: str


class Selection(BaseModel):
    """One rule of a table mapping. DMS lets exclusion win."""

    model_config = ConfigDict(frozen=True, alias_generator=lambda name: name.replace("_", "-"), validate_by_name=True)

    rule_type: Literal["selection"] = "selection"
    rule_id: str
    rule_name: str
    object_locator: Locator
    rule_action: Literal["include", "exclude"]


class TableMappings(BaseModel):
    """The tables of a task; ``to_json`` is what DMS takes."""

    model_config = ConfigDict(frozen=True)

    rules: tuple[Selection, ...]

    def to_json(self) -> str:
        """As JSON, keys as DMS spells them."""
        return self.model_dump_json(by_alias=True)


def task_settings(max_lob_kb: int) -> TaskSettings:
    """Settings that lose nothing. ``max_lob_kb`` 0 carries large objects of any size, one by one; otherwise
    they are carried with their rows, and one larger than that (KB) stops the task (the source endpoint's
    ``fail_tasks_on_lob_truncation``)."""
    if max_lob_kb:
        return TaskSettings(
            target_metadata=TargetMetadata(full_lob_mode=False, limited_size_lob_mode=True, lob_max_size=max_lob_kb)
        )
    # 64 KB is what AWS recommends; larger chunks can fail a task.
    return TaskSettings(
        target_metadata=TargetMetadata(full_lob_mode=True, limited_size_lob_mode=False, lob_chunk_size=64)
    )


def table_mappings(include: Sequence[str], exclude: Sequence[str]) -> TableMappings:
    """The rules for patterns ``schema.table`` in which ``*`` matches anything, and for Daybreak's own tables.

    Raises ConfigError for a name with brackets, which DMS has no way to write."""
    private = [f"{CONTROL_SCHEMA}.{table}" for table in PRIVATE_TABLES]
    wanted: list[tuple[Literal["include", "exclude"], str]] = [
        *(("include", pattern) for pattern in (*include, f"{CONTROL_SCHEMA}.{TOKEN_TABLE}")),
        *(("exclude", pattern) for pattern in (*exclude, *private)),
    ]
    return TableMappings(
        rules=tuple(_selection(number, action, pattern) for number, (action, pattern) in enumerate(wanted, 1))
    )


def _selection(number: int, action: Literal["include", "exclude"], pattern: str) -> Selection:
    schema, _, table = pattern.partition(".")
    return Selection(
        rule_id=str(number),
        rule_name=f"{action}-{number}",
        object_locator=Locator(schema_name=_wildcards(schema), table_name=_wildcards(table)),
        rule_action=action,
    )


def _wildcards(pattern: str) -> str:
    """``pattern`` as DMS writes it: a set of one character stands for that character (DMS user guide,
    "Wildcards in table mapping")."""
    if "[" in pattern or "]" in pattern:
        raise ConfigError(
            f"AWS DMS cannot select {pattern!r}: brackets are wildcards there.",
            "Use `*` in its place in replication.include and exclude, or the native engine.",
        )
    return "".join({"*": "%", "%": "[%]", "_": "[_]"}.get(letter, letter) for letter in pattern)
