"""The stored form of a record: it comes back equal; newer and damaged ones are refused with a reason."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybreak import __version__
from daybreak.errors import PermanentError
from daybreak.model import Intent, MigrationRecord, Switchover, SwitchTimings, Verification
from daybreak.store.codec import decode, encode

_MOMENTS = st.datetimes(timezones=st.just(UTC))
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_TEXTS = st.text()
_TIMINGS = st.builds(SwitchTimings, *(_FLOATS,) * 6)
_VERIFICATIONS = st.builds(
    Verification, at=_MOMENTS, seconds=_FLOATS, differences=st.tuples(_TEXTS), complete=st.booleans()
)
_SWITCHOVERS = st.builds(
    Switchover,
    started_at=_MOMENTS,
    backed_out=_TEXTS,
    timings=st.none() | _TIMINGS,
    certificate=st.none() | _VERIFICATIONS,
    outcome=_TEXTS,
)
_RECORDS = st.builds(
    MigrationRecord,
    intent=st.none() | st.builds(Intent, asked_at=_MOMENTS, percent=st.none() | st.integers()),
    switchover=st.none() | _SWITCHOVERS,
    last_switchover=st.none() | _SWITCHOVERS,
    verification=st.none() | _VERIFICATIONS,
    last_error=_TEXTS,
    generation=st.integers(),
)
_TEXT = encode(MigrationRecord("shop", verification=Verification(datetime(2026, 1, 1, tzinfo=UTC), 1, 2, 0.5)))


@given(record=_RECORDS)
def test_every_record_comes_back_equal(record: MigrationRecord) -> None:
    assert decode(encode(record), "here") == record


def test_absent_fields_get_their_defaults() -> None:
    raw = json.loads(_TEXT)
    raw["record"] = {"name": "shop"}
    assert decode(json.dumps(raw), "here") == MigrationRecord("shop")


@pytest.mark.parametrize("change", [{"format": 2}, {"record": {"name": "shop", "colour": "red"}}])
def test_a_newer_record_is_refused_with_its_writer(change: dict[str, object]) -> None:
    raw = json.loads(_TEXT) | {"daybreak": "7.1"} | change
    with pytest.raises(PermanentError, match=r"(?s)^here: .*written by Daybreak 7\.1.*Run Daybreak 7\.1"):
        decode(json.dumps(raw), "here")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "{}", _TEXT[:-20], _TEXT.replace('"shop"', "3"), _TEXT.replace('"planned"', '"dreaming"')],
)
def test_a_damaged_record_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(PermanentError, match=r"(?s)^here: .*damaged.*daybreak adopt"):
        decode(text, "here")


def test_the_writer_is_named_in_the_text() -> None:
    assert json.loads(_TEXT)["daybreak"] == __version__
