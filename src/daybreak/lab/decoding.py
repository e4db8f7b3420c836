"""What PostgreSQL's output plugin ``test_decoding`` says of changes, read back. Pure.

AWS DMS reads changes by it. No library that PyPI offers reads it, or ``pgoutput``, with psycopg 3. Source:
PostgreSQL docs, "test_decoding", and contrib/test_decoding/test_decoding.c."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from daybreak.model import TableName

Kind = Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
Row = dict[str, str | None]

_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[^\s".:,\[\]]+)'
_TABLE = re.compile(rf"({_IDENTIFIER})\.({_IDENTIFIER})")
_CHANGE = re.compile(
    rf"table (?P<tables>{_IDENTIFIER}\.{_IDENTIFIER}(?:, {_IDENTIFIER}\.{_IDENTIFIER})*):"
    r" (?P<kind>INSERT|UPDATE|DELETE|TRUNCATE):(?P<rest>.*)",
    re.DOTALL,
)
# A type may be an array (text[]) or quoted ("Shop".mood).
_COLUMN = re.compile(
    rf"\s*(?P<name>{_IDENTIFIER})\[(?P<type>(?:\[\]|\"(?:[^\"]|\"\")+\"|[^\[\]\"])+)\]:"
    r"(?P<value>B?'(?:[^']|'')*'|unchanged-toast-datum|[^\s']+)"
)
_OLD, _NEW = "old-key:", "new-tuple:"
_UNCHANGED = "unchanged-toast-datum"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one table (a TRUNCATE may be of several). ``new`` is the row as it is now, without values that
    were not touched and are kept apart (TOAST); ``old_key`` is given where the key changed, or a row went."""

    kind: Kind
    tables: tuple[TableName, ...]
    new: Row
    old_key: Row


def parse(text: str) -> Change:
    """A line of the plugin that is neither BEGIN nor COMMIT. Raises ValueError for anything else."""
    match = _CHANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a change: {text[:80]}")
    tables = tuple(TableName(_bare(a), _bare(b)) for a, b in _TABLE.findall(match["tables"]))
    kind: Kind = match["kind"]  # type: ignore[assignment]
    rest = match["rest"].strip()
    if kind == "TRUNCATE" or rest.startswith("(no-tuple-data)"):
        return Change(kind, tables, {}, {})
    if not rest.startswith(_OLD):
        row = _columns(rest)[0]
        return Change(kind, tables, {}, row) if kind == "DELETE" else Change(kind, tables, row, {})
    old, rest = _columns(rest.removeprefix(_OLD))
    return Change(kind, tables, _columns(rest.removeprefix(_NEW))[0], old)


def _columns(text: str) -> tuple[Row, str]:
    """The columns that ``text`` begins with, and what follows them."""
    row: Row = {}
    end = 0
    while text[end:].strip() and not text[end:].lstrip().startswith(_NEW):
        match = _COLUMN.match(text, end)
        if match is None:
            raise ValueError(f"not a column: {text[end : end + 80]}")
        end = match.end()
        if match["value"] != _UNCHANGED:
            row[_bare(match["name"])] = _value(match["value"])
    return row, text[end:].lstrip()


def _value(text: str) -> str | None:
    if text == "null":
        return None
    literal = text.removeprefix("B")
    return literal[1:-1].replace("''", "'") if literal.startswith("'") else text


def _bare(identifier: str) -> str:
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier
