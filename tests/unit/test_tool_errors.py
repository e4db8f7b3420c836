"""What psql and pg_dump say becomes the same errors as in a session of our own."""

from __future__ import annotations

import pytest

from daybreak.errors import DaybreakError, PermanentError, StateConflict, TransientError
from daybreak.postgres.processes import raise_tool_error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ERROR:  53100: could not extend file\nHINT:  Check free disk space.", PermanentError),
        ("ERROR:  42501: permission denied for table t", PermanentError),
        ("ERROR:  57P01: terminating connection due to administrator command", TransientError),
        ("FATAL:  57P03: the database system is starting up", TransientError),
        ("ERROR:  DB001: generation 8 acts on this database, not 7", StateConflict),
        ("ERROR:  ZZ999: no such state", PermanentError),
        ('psql: error: connection to server at "::1", port 1 failed: Connection refused', TransientError),
        ('psql: error: connection to server at "x" failed: FATAL:  password authentication failed', PermanentError),
        ("pg_dump: error: query failed: server closed the connection unexpectedly", TransientError),
        ("pg_dump: error: could not write to output file: No space left on device", PermanentError),
        ("pg_dump: error: aborting because of server version mismatch", PermanentError),
    ],
)
def test_the_class_follows_what_happened(text: str, expected: type[DaybreakError]) -> None:
    with pytest.raises(expected) as caught:
        raise_tool_error("source: pg_dump", text)
    assert "source: pg_dump" in caught.value.message
    assert caught.value.hint


def test_places_in_postgresqls_source_are_left_out() -> None:
    with pytest.raises(PermanentError) as caught:
        raise_tool_error("x", "ERROR:  22P02: invalid input\nLOCATION:  f, file.c:1\nCONTEXT:  COPY t, line 3")
    assert "LOCATION" not in caught.value.message
    assert "line 3" in caught.value.message
