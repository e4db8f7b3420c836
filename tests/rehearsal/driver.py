"""One verb of a migration, or one invocation of the function on AWS, in a process of its own, which ends or
stops itself at a named point."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from rehearsal.points import Points

from daybreak.aws.metrics import Metrics
from daybreak.aws.session import open_session
from daybreak.config import load_settings
from daybreak.entry.interrupts import Interrupts
from daybreak.entry.lambda_app import ACTOR, App, Watch
from daybreak.entry.lambda_calls import Call, parse
from daybreak.errors import DaybreakError
from daybreak.events import Event
from daybreak.model import Verb
from daybreak.switchover.adopt import rebuild_record
from daybreak.wiring import build

Said = dict[str, str]


def main(config: Path, verb: str, point: str, action: str, environment: Mapping[str, str], answer: Connection) -> None:
    """Run ``verb`` (``shift 30`` and ``adopt`` too), and at ``point`` (see ``points``) send the signal
    ``action`` to this process. Sends phase and primary, or the error, through ``answer``."""
    os.environ.update(environment)
    interrupts = Interrupts()
    settings = load_settings(config)
    with interrupts.caught(), build(settings, _striking(point, action, interrupts.heed)) as runtime:
        try:
            if verb == "adopt":
                record = runtime.controller.adopt(lambda seen: rebuild_record(settings.name, seen))
            else:
                name, _, percent = verb.partition(" ")
                record = runtime.controller.run(Verb(name), int(percent) if percent else None)
        except (DaybreakError, KeyboardInterrupt) as error:
            answer.send({"error": type(error).__name__, "message": str(error)})
            return
        answer.send({"phase": record.phase, "primary": record.primary})


def invoke(
    config: Path,
    request: Mapping[str, str],
    point: str,
    action: str,
    environment: Mapping[str, str],
    answer: Connection,
) -> None:
    """Do what the function does with ``request`` where ``environment`` leads to AWS; otherwise like ``main``."""
    os.environ.update(environment)
    settings = load_settings(config)
    assert settings.aws is not None
    session, call = open_session(settings.aws.region), parse(dict(request))
    assert isinstance(call, Call)
    metrics = Metrics(session.client("cloudwatch"), settings.name, settings.aws.environment)
    topic = session.client("sns").create_topic(Name=settings.name)["TopicArn"]
    watch = Watch(lambda: 900.0, 70.0)
    with build(settings, _striking(point, action, watch), ACTOR) as runtime:
        try:
            said = App(runtime, session.client("sns"), metrics, topic).call(call)
        except DaybreakError as error:
            answer.send({"error": type(error).__name__, "message": str(error)})
            return
        answer.send({"phase": said["phase"], "primary": said["primary"]})


def _striking(point: str, action: str, heed: Callable[[Event], None]) -> Callable[[Event], None]:
    """A listener that sends ``action`` to this process at ``point``, once, and passes everything on to ``heed``."""
    points, waiting = Points(), [point]

    def listen(event: Event) -> None:
        if waiting[0] in points.of(event):
            waiting[0] = "never again"
            os.kill(os.getpid(), signal.Signals[f"SIG{action}"])
        heed(event)

    return listen
