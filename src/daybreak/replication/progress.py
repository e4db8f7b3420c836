"""How far a copy is and how long it will take: arithmetic on samples, no I/O and no clock."""

from __future__ import annotations

from dataclasses import dataclass, field

# Weight of the newest interval in the smoothed rate; the rest is history.
_SMOOTHING = 0.2


@dataclass
class Estimator:
    """A smoothed rate in bytes a second from samples ``(seconds, bytes_done)``, and the time left."""

    bytes_total: int
    rate: float | None = None
    _last: tuple[float, int] | None = field(default=None)

    def sample(self, at_seconds: float, bytes_done: int) -> None:
        """Take in one sample; samples closer than a tenth of a second are left out."""
        if self._last is None:
            self._last = (at_seconds, bytes_done)
            return
        seconds, moved = at_seconds - self._last[0], bytes_done - self._last[1]
        if seconds < 0.1:
            return
        now = max(0.0, moved / seconds)
        self.rate = now if self.rate is None else _SMOOTHING * now + (1 - _SMOOTHING) * self.rate
        self._last = (at_seconds, bytes_done)

    def eta_seconds(self) -> float | None:
        """Seconds left at the smoothed rate; None while nothing moves."""
        if self._last is None or not self.rate:
            return None
        return max(0.0, (self.bytes_total - self._last[1]) / self.rate)
