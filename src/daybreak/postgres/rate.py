"""How long something will take yet, from a smoothed rate. Pure: the caller has the clock."""

from __future__ import annotations

import math

_HALF_LIFE_SECONDS = 15.0
# Estimates from the first moments are noise.
_SETTLING_SECONDS = 2.0


class Rate:
    """The smoothed rate of a counter on its way to ``total``.

    An average over all samples in which one that is 15 s older counts half as much. A counter that
    goes backwards (a table that had to begin again) counts as standing still."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._began: float | None = None
        self._at = 0.0
        self._done = 0
        self._amount = 0.0
        self._seconds = 0.0

    def eta_seconds(self, at: float, done: int) -> float | None:
        """Take the sample ``done`` at time ``at`` (seconds of any steady clock); the seconds left, or
        None while that cannot be said."""
        if self._began is None:
            self._began = at
        else:
            seconds = max(at - self._at, 0.0)
            fading = math.exp2(-seconds / _HALF_LIFE_SECONDS)
            self._amount = self._amount * fading + max(done - self._done, 0)
            self._seconds = self._seconds * fading + seconds
        self._at, self._done = at, done
        left = max(self._total - done, 0)
        if left == 0:
            return 0.0
        if at - self._began < _SETTLING_SECONDS or self._amount <= 0:
            return None
        return left * self._seconds / self._amount
