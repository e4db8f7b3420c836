"""What all sections of the configuration share: frozen, strict, and silent about what they reject."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr

from daybreak.config.secret import secret_value


def _resolve(value: object) -> object:
    """Replace ``env:NAME``, ``file:PATH`` and a secret's ARN by what they name; the value itself is never shown."""
    if not isinstance(value, str):
        return value
    if value.startswith("arn:"):
        return secret_value(value)
    kind, _, where = value.partition(":")
    if kind == "env":
        if where not in os.environ:
            raise ValueError(f"environment variable {where} is not set")
        return os.environ[where]
    if kind == "file":
        try:
            return Path(where).expanduser().read_text().strip()
        except OSError as error:
            raise ValueError(f"{where} cannot be read: {error.strerror}") from error
    return value


Secret = Annotated[SecretStr, BeforeValidator(_resolve)]


class Section(BaseModel):
    """A table of ``daybreak.toml``: frozen, unknown keys are errors."""

    # hide_input_in_errors: a validation error must not print the DSN it rejects.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
