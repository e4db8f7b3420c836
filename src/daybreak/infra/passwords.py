"""The passwords that a stack's secrets are made with.

They go to Terraform in its environment and from there into write-only arguments: neither plan nor state ever
holds one."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from daybreak.aws.errors import translated
from daybreak.config import InfraSettings
from daybreak.config.names import SECRET_LIMIT, Names
from daybreak.errors import ConfigError, Finding
from daybreak.infra.plan import Plan

if TYPE_CHECKING:
    from boto3.session import Session

_SUFFIX = "_password"
_SOURCE = "source"
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


def unwritten(given: Mapping[str, str], settings: InfraSettings, session: Session, plan: Plan) -> tuple[Finding, ...]:
    """A warning for each secret that has another password than the one ``given``, and that ``plan`` does not write; and
    for the source's where it does, which undoes what AWS may have rotated: of all others the secret's own is given.

    Raises as ``passwords``."""
    found = []
    for name, value in given.items():
        what = _what(name)
        secret, written = _secret(what, settings), plan.writes_secret(what)
        if written and what != _SOURCE:
            continue
        if _existing(secret, session) not in ("", value):
            found.append(_overwritten(secret) if written else _not_written(secret, what))
    return tuple(found)


def _not_written(secret: str, what: str) -> Finding:
    return Finding(
        "secrets-version",
        "warning",
        secret,
        f"It has another password than the one that is given for {what}, and this deploy does not write it.",
        "Raise aws.secrets_version to have it written; leave it where AWS rotated the password.",
    )


def _overwritten(secret: str) -> Finding:
    return Finding(
        "secret-overwritten",
        "warning",
        secret,
        "It has another password than [source], and this deploy writes that of [source] over it.",
        "If [source] has the new one, nothing. If AWS rotated the secret, let [source] password be the secret's ARN, "
        "or change it, before you deploy: the controller could not connect.",
    )


def _what(name: str) -> str:
    return name.removesuffix(_SUFFIX).replace("_", "-")


def _secret(what: str, settings: InfraSettings) -> str:
    return Names(settings.name, settings.aws.environment).of(what, SECRET_LIMIT)


def _value(name: str, settings: InfraSettings, session: Session) -> str:
    what = _what(name)
    given = os.environ.get(f"TF_VAR_{name}")
    if not given and what == _SOURCE:
        given = settings.source.parameters().get("password")
    found = given or _existing(_secret(what, settings), session)
    if not found and what == _SOURCE:
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
