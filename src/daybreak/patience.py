"""How long one run of the loop waits: for gates, for what was done to show, for what may pass by itself.

It decides nothing about the migration. Time is told by the clock that is handed in, so that tests need none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import tenacity

from daybreak.errors import TransientError
from daybreak.events import Event, Listener
from daybreak.model import Decision, Step, Wait

_POLL_SECONDS = 0.25


class OutOfPatience(TransientError):
    """Waiting was long enough: not to be retried by this run."""


class Patience:
    """The waiting of one run, ``seconds`` long where it is limited; ``listener`` hears what is waited for."""

    def __init__(
        self, seconds: float, listener: Listener, clock: Callable[[], datetime], sleep: Callable[[float], None]
    ) -> None:
        self._seconds = seconds
        self._tell = listener
        self._clock = clock
        self._sleep = sleep
        self._waiting_since: datetime | None = None
        self._done_before: tuple[Step, datetime] | None = None

    def decided(self, decision: Decision) -> None:
        """Note what is done next: patience begins anew where something else is."""
        if isinstance(decision, Wait):
            self._done_before = None
        if not (isinstance(decision, Wait) and decision.limited):
            self._waiting_since = None

    def done(self, step: Step) -> None:
        """Note that ``step`` was done."""
        self._done_before = self._done_before or (step, self._clock())

    def wait(self, decision: Wait) -> None:
        """Say what is waited for, and wait a little; raises OutOfPatience where that is limited and was long."""
        self._tell(Event("wait", text=decision.reason, urgent=decision.urgent))
        self._waiting_since = self._waiting_since or self._clock()
        if decision.limited and self._is_long_since(self._waiting_since):
            self._waiting_since = None
            raise OutOfPatience(
                f"Gave up waiting: {decision.reason}", "Nothing is lost; mend this and run the same command again."
            )
        self._sleep(_POLL_SECONDS)

    def expect_progress(self, step: Step) -> None:
        """A step that is needed again right after it was done gets a little time to show, not for ever.

        Raises OutOfPatience then."""
        if self._done_before is None or self._done_before[0] is not step:
            self._done_before = None
            return
        if self._is_long_since(self._done_before[1]):
            self._done_before = None
            raise OutOfPatience(
                f"{step} was done again and again, but both servers look as if it was not.",
                "See `daybreak status` and the servers' logs; then run the same command again.",
            )
        self._sleep(_POLL_SECONDS)

    def retrying(self) -> tenacity.Retrying:
        """Calls what it is given until that raises no TransientError, or patience ends; then raises that."""

        def tell(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome is not None else None
            self._tell(Event("retry", text=str(error)))

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_worth_retrying),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5.0),
            # Counted is the waiting, not the work: a copy of hours that broke off is tried again as well.
            stop=lambda state: state.idle_for >= self._seconds,
            before_sleep=tell,
            sleep=self._sleep,
            reraise=True,
        )

    def _is_long_since(self, then: datetime) -> bool:
        return (self._clock() - then).total_seconds() > self._seconds


def _is_worth_retrying(error: BaseException) -> bool:
    return isinstance(error, TransientError) and not isinstance(error, OutOfPatience)
