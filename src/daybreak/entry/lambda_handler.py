"""The controller as an AWS Lambda function: its entry point.

A wrong request, a refusal and a failure all end in an error that whoever called sees as a failed invocation,
and that asynchronous callers find in the dead-letter queue. Sources: Lambda developer guide, "Define Lambda
function handler in Python" and "Asynchronous invocation"."""

from __future__ import annotations

import json
import os
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Tracer

from daybreak.aws.metrics import Metrics
from daybreak.aws.session import open_session
from daybreak.entry.lambda_app import ACTOR, App, Watch
from daybreak.entry.lambda_calls import Call, Event, parse
from daybreak.entry.lambda_settings import Names, load
from daybreak.errors import DaybreakError, PermanentError
from daybreak.wiring import build

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from boto3.session import Session

# Named like the package, so that it also writes what every module of it logs.
_LOG = Logger(service="daybreak", level=os.environ.get("LOG_LEVEL", "INFO"), utc=True)
# How long each call of AWS took, in X-Ray; outside Lambda it does nothing (Powertools, "Tracer").
_TRACER = Tracer(service="daybreak", patch_modules=("botocore",))
# Of it 90 s for names that move (Route 53's GetChange), which come last in the step that switches.
_SPARE_SECONDS = 150.0


@_TRACER.capture_lambda_handler(capture_response=False)
def handle(event: object, context: LambdaContext) -> dict[str, Any]:
    """Do what ``event`` asks for; returns how the migration stands then, as plain JSON.

    Raises Refused for what can't be asked, and every other DaybreakError; its text is message and hint."""
    _LOG.append_keys(function_request_id=context.aws_request_id)
    try:
        asked = parse(event)
        _LOG.info("asked", extra={"what": asked.action if isinstance(asked, Call) else asked.detail_type})
        answer: dict[str, Any] = json.loads(json.dumps(_answer(asked, context), default=str))
        return answer
    except DaybreakError as error:
        _LOG.error(error.message, extra={"hint": error.hint})
        raise
    except Exception:
        _LOG.exception("This is a bug in Daybreak.")
        raise


def _answer(asked: Call | Event, context: LambdaContext) -> dict[str, Any]:
    session, names = _session(), Names.of(dict(os.environ))
    configured = load(session, names)
    settings = configured.settings
    if settings.aws is None:
        raise PermanentError(f"The settings in {names.config_parameter} lack [aws].", "Run `daybreak infra deploy`.")
    if isinstance(asked, Event) and not asked.why(configured.task_arn):
        return {"ignored": asked.detail_type}
    watch = Watch(
        lambda: context.get_remaining_time_in_millis() / 1000,
        _SPARE_SECONDS + settings.cutover.max_write_pause_seconds,
        settings.cutover.gate_patience_seconds,
    )
    metrics = Metrics(session.client("cloudwatch"), settings.name, settings.aws.environment)
    with build(settings, watch, ACTOR) as runtime:
        app = App(runtime, session.client("sns"), metrics, names.notices_topic)
        if isinstance(asked, Call):
            # What AWS delivers again bears the same id (developer guide, "Asynchronous invocation").
            return app.call(asked.model_copy(update={"request": asked.request or context.aws_request_id}))
        return app.look(asked.why(configured.task_arn))


@cache
def _session() -> Session:
    """Kept from one invocation to the next; the settings are not, for they may have been deployed anew."""
    return open_session("")
