"""The documentation says what the code does: every setting with its default and description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from daybreak.config import Settings

_DOCS = Path(__file__).parents[2] / "docs"


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None or field.default == "":
        return ""
    if isinstance(field.default, float):
        return f"`{field.default:g}`"
    return f"`{json.dumps(field.default)}`"


def _rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = _section(field)
        if section is not None:
            yield from _rows(section, f"{prefix}{name}.")
        else:
            yield f"| `{prefix}{name}` | {_default(field)} | {field.description} |"


def test_every_setting_is_documented_as_it_is() -> None:
    text = (_DOCS / "configuration.md").read_text()
    missing = [row for row in _rows(Settings) if row not in text.splitlines()]
    assert missing == [], "docs/configuration.md lacks these lines"


def test_no_setting_is_documented_that_is_not_there() -> None:
    rows = set(_rows(Settings))
    written = [line for line in (_DOCS / "configuration.md").read_text().splitlines() if line.startswith("| `")]
    assert [line for line in written if line not in rows] == []
