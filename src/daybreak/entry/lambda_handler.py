"""The controller as an AWS Lambda function.

This version answers ``{"action": "status"}`` with the published state and nothing else: every other action,
and every event of EventBridge, ends in an error, which whoever called sees as a failed invocation. Migrations
are moved by the command line."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from daybreak.aws.errors import translated
from daybreak.aws.session import open_session
from daybreak.errors import PermanentError, Refused

if TYPE_CHECKING:
    from types_boto3_ssm import SSMClient

_LOG = logging.getLogger("daybreak.lambda")


class Call(BaseModel):
    """What the function may be asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    action: Literal["status"]


class JsonFormatter(logging.Formatter):
    """Each record as one line of JSON: ``at`` (UTC), ``level``, ``logger``, ``message``, and ``error`` if any."""

    def format(self, record: logging.LogRecord) -> str:
        """``record`` as JSON."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "at": f"{at}.{int(record.msecs):03}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def handle(event: object, context: object) -> dict[str, object]:  # noqa: ARG001 - Lambda passes both
    """The published state (``store.checkpoint``).

    Raises Refused for anything but ``status``, TransientError or PermanentError where SSM does not answer."""
    _log_json()
    try:
        call = Call.model_validate(event)
        _LOG.info("%s was asked for", call.action)
        return _published(os.environ["STATE_PARAMETER"])
    except ValidationError:
        refusal = Refused(
            "This is not available in this version: the function answers the action status only.",
            "Run `daybreak` on the command line.",
        )
        _LOG.error("%s The event was %s.", refusal.message, _named(event))
        raise refusal from None
    except Exception:
        _LOG.exception("The invocation failed")
        raise


def _published(parameter: str) -> dict[str, object]:
    with translated(f"reading {parameter}"):
        answer = _ssm().get_parameter(Name=parameter, WithDecryption=True)
    try:
        found = json.loads(answer["Parameter"]["Value"])
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PermanentError(f"{parameter} holds no JSON object.", "The migration's next change writes it anew.")
    return found


@cache
def _ssm() -> SSMClient:
    """Kept from one invocation to the next."""
    return open_session("").client("ssm")


def _named(event: object) -> str:
    """What an event calls itself; the rest of it is not for the log."""
    if not isinstance(event, dict):
        return type(event).__name__
    return str(event.get("action") or event.get("detail-type") or "without action and detail-type")


def _log_json() -> None:
    """Log to standard error as JSON. Lambda's own handler on the root logger would write each record again."""
    logger = logging.getLogger("daybreak")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(os.environ.get("LOG_LEVEL", "INFO"))
