"""The passwords that a stack's secrets are made with.

They go to Terraform in its environment and from there into write-only arguments: neither plan nor state ever
holds one."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from daybreak.aws.errors import translated
from daybreak.config import InfraSettings
from daybreak.config.names import SECRET_LIMIT, Names
from daybreak.errors import ConfigError

if TYPE_CHECKING:
    from boto3.session import Session

_SUFFIX = "_password"
# 32 random bytes in URL-safe letters, which no DSN and no shell has to quote.
_BYTES = 32


def variables(synthesised: Path) -> tuple[str, ...]:
    """The names of the stack's password variables."""
    stack = json.loads((synthesised / "cdk.tf.json").read_text())
    return tuple(name for name in stack.get("variable", {}) if name.endswith(_SUFFIX))


def passwords(names: tuple[str, ...], settings: InfraSettings, session: Session) -> dict[str, str]:
    """A value for each variable: the source's from the configuration; that of a secret that exists stays as it
    is; every other is made here. One that the environment gives (``TF_VAR_target_password``) counts.

    Raises ConfigError where the source's is known nowhere, PermanentError where a secret can't be read: it
    would be overwritten with a password that no server has."""
    return {name: _value(name, settings, session) for name in names}


def _value(name: str, settings: InfraSettings, session: Session) -> str:
    what = name.removesuffix(_SUFFIX).replace("_", "-")
    given = os.environ.get(f"TF_VAR_{name}")
    if not given and what == "source":
        given = settings.source.parameters().get("password")
    found = given or _existing(Names(settings.name, settings.aws.environment).of(what, SECRET_LIMIT), session)
    if not found and what == "source":
        raise ConfigError(
            "The source's password is not known; the controller connects with it.",
            'Set [source] password, for example "env:DAYBREAK_SOURCE_PASSWORD".',
        )
    return found or secrets.token_urlsafe(_BYTES)


def _existing(secret: str, session: Session) -> str:
    """The password in ``secret``; empty where it has no value yet. One that is being deleted is an error: none of that
    name could be made."""
    client = session.client("secretsmanager")
    with translated(f"reading the secret {secret}, whose password is to stay"):
        try:
            text = client.get_secret_value(SecretId=secret).get("SecretString")
        except client.exceptions.ResourceNotFoundException:
            return ""
    return str(json.loads(text)["password"]) if text else ""
