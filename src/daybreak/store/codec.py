"""The stored form of a ``MigrationRecord``: JSON in an envelope that says which format it is in and
which Daybreak wrote it. The model itself stays free of any library; pydantic checks every field
on the way in, so a record of a newer Daybreak is refused rather than half understood.
"""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, ValidationError

from daybreak import __version__
from daybreak.errors import PermanentError
from daybreak.model import MigrationRecord

FORMAT = 1
ADOPT_HINT = (
    "Put back a copy, or move it away and run `daybreak adopt`: both databases know enough to rebuild the record."
)


class _Envelope(BaseModel):
    # The configuration reaches the dataclasses inside: an unknown field anywhere is an error.
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    format: int
    daybreak: str
    record: MigrationRecord


def encode(record: MigrationRecord) -> str:
    """``record`` as JSON text; ``decode`` gives back an equal record."""
    return _Envelope(format=FORMAT, daybreak=__version__, record=record).model_dump_json()


def decode(text: str, where: str) -> MigrationRecord:
    """The record in ``text``, read from ``where`` (for the error).

    A field that is absent gets its default, so records of an older Daybreak can be read. Raises
    PermanentError for a record of a newer Daybreak and for a damaged one.
    """
    try:
        raw = json.loads(text)
        written_format, writer = int(raw["format"]), str(raw["daybreak"])
    except (ValueError, TypeError, KeyError) as error:
        raise PermanentError(f"{where}: the stored record is damaged: {error}.", ADOPT_HINT) from error
    if written_format > FORMAT:
        raise _unknown(where, writer)
    try:
        return _Envelope.model_validate_json(text).record
    except ValidationError as error:
        if writer != __version__:
            raise _unknown(where, writer) from error
        raise PermanentError(f"{where}: the stored record is damaged: {error}.", ADOPT_HINT) from error


def _unknown(where: str, writer: str) -> PermanentError:
    return PermanentError(
        f"{where}: the record was written by Daybreak {writer}; this is Daybreak {__version__} and can't read it.",
        f"Run Daybreak {writer} or newer.",
    )
