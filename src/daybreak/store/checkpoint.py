"""The checkpoint: where a migration stands, as a JSON parameter that people and other tools read in SSM.

It is a copy. The record is the truth; a checkpoint that could not be written harms nothing and is written
again with the next change or look. Terraform makes the parameter and never touches its value again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from daybreak.aws.errors import translated
from daybreak.errors import AdapterError
from daybreak.model import JournalEntry, MigrationRecord, Step
from daybreak.ports import StateStore

if TYPE_CHECKING:
    from types_boto3_ssm import SSMClient

_LOG = logging.getLogger(__name__)
# SSM takes three writes a second from the whole account (AWS General Reference, "Systems Manager quotas"), and a
# switchover changes the record many times: it must wait for none of them.
_INTERVAL_SECONDS = 2.0
# A parameter holds 4,096 bytes.
_LONGEST_STATUS = 500


class Checkpoint(BaseModel):
    """The published form. Weights are percents of new read sessions; ``lag_seconds`` is null where unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: str
    phase: str
    last_updated: datetime
    onprem_weight: int
    aurora_weight: int
    primary: str
    lag_seconds: float | None
    version: int

    @classmethod
    def of(cls, record: MigrationRecord, at: datetime, lag_seconds: float | None) -> Checkpoint:
        """``record`` as it was at ``at``. ``status`` is what a person asks first: the last error, else
        what is being done, else the phase."""
        doing = "" if record.intent is None else f"{record.intent.verb} under way"
        return cls(
            status=(record.last_error or doing or record.phase)[:_LONGEST_STATUS],
            phase=record.phase,
            last_updated=at,
            onprem_weight=100 - record.read_weight,
            aurora_weight=record.read_weight,
            primary=record.primary,
            lag_seconds=lag_seconds,
            version=record.version,
        )

    def says(self, other: Checkpoint) -> bool:
        """Whether ``other`` tells the same, whenever it was written, and of the lag to the second."""
        mine, theirs = self.lag_seconds, other.lag_seconds
        near = mine is theirs if mine is None or theirs is None else abs(mine - theirs) < 1.0
        return near and self == other.model_copy(update={"last_updated": self.last_updated, "lag_seconds": mine})


class PublishingStore:
    """``StateStore`` that publishes the record after changes of ``inner``: the first at once, others every two
    seconds at most (``clock``), what is left by ``flush``, and what went wrong before by ``refresh``.

    ``parameter`` is a SecureString under the key whose ARN ``key_id`` gives: written over without naming both,
    it would come under the account's default key (SSM API, PutParameter). ``lag_seconds`` is asked for the last lag
    that was measured, None where none was."""

    def __init__(
        self,
        inner: StateStore,
        client: SSMClient,
        parameter: str,
        key_id: Callable[[], str],
        lag_seconds: Callable[[], float | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._client = client
        self._parameter = parameter
        self._key_id = key_id
        self._lag_seconds = lag_seconds
        self._clock = clock
        self._quiet_until = 0.0
        self._left: tuple[MigrationRecord, datetime] | None = None

    def load(self, name: str) -> MigrationRecord | None:
        """See ``StateStore.load``."""
        return self._inner.load(name)

    def compare_and_swap(
        self, record: MigrationRecord, expected_version: int, event: str, step: Step | None, at: datetime, detail: str
    ) -> MigrationRecord:
        """See ``StateStore.compare_and_swap``. A failed publication is logged, never raised."""
        stored = self._inner.compare_and_swap(record, expected_version, event, step, at, detail)
        self._left = stored, at
        if self._clock() >= self._quiet_until:
            self.flush()
        return stored

    def journal(self, name: str) -> tuple[JournalEntry, ...]:
        """See ``StateStore.journal``."""
        return self._inner.journal(name)

    def flush(self) -> None:
        """Publish the last change, if it was not yet. A failure is logged, never raised; what is left stays left."""
        if self._left is not None:
            with self._harmless():
                self._put(*self._left)

    def refresh(self, name: str, at: datetime) -> None:
        """Publish the record of ``name`` as it is at ``at``, unless the parameter says just that: a publication may
        have failed, come late or died with its process, and people edit parameters. For every look.

        One read of each, and a write only where they differ. A failure is logged, never raised."""
        with self._harmless():
            # In this order: what is published then is never newer than the record.
            published, record = self._published(), self._inner.load(name)
            if record is None:
                return
            self._left = record, at
            if published is None or not Checkpoint.of(record, at, self._lag_seconds()).says(published):
                self._put(record, at)
            self._left = None

    def _published(self) -> Checkpoint | None:
        """What the parameter says; None where it is gone or was edited into something else."""
        with translated(f"reading {self._parameter}"):
            try:
                found = self._client.get_parameter(Name=self._parameter, WithDecryption=True)
            except self._client.exceptions.ParameterNotFound:
                return None
        try:
            return Checkpoint.model_validate_json(found["Parameter"].get("Value", ""))
        except ValidationError:
            return None

    def _put(self, record: MigrationRecord, at: datetime) -> None:
        text = Checkpoint.of(record, at, self._lag_seconds()).model_dump_json()
        self._quiet_until = self._clock() + _INTERVAL_SECONDS
        with translated(f"publishing {self._parameter}"):
            self._client.put_parameter(
                Name=self._parameter, Value=text, Type="SecureString", KeyId=self._key_id(), Overwrite=True
            )
        self._left = None

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except AdapterError as error:
            _LOG.warning("The checkpoint was not published, the record is not affected: %s", error.message)
