"""A whole migration on two servers of its own, under load: start, verify, shift reads, cutover,
rollback, cutover, finish, through the same controller as the commands. What the clients were told is held
against the database at the end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from daybreak.config import load_settings
from daybreak.errors import DaybreakError, TransientError
from daybreak.events import Event
from daybreak.lab import payments
from daybreak.lab.bouncer import Bouncer
from daybreak.lab.configuration import write_configuration
from daybreak.lab.pair import APPLICATION, Pair, running_pair
from daybreak.lab.result import FullLoad, Lag, LedgerResult, MeasuredShare, MeasuredSwitch, RehearsalResult, Verified
from daybreak.lab.ways import ByBouncer, ByHosts, Way
from daybreak.lab.workload import Workload
from daybreak.model import ReplicationStatus, Side, Step, Verb
from daybreak.wiring import Runtime, build

# Acknowledged writes: the fewest, and the shares that have to be there before each switchover and before the end.
_FEWEST_WRITES = 200
_SHARES = {"first": 0.4, "target": 0.6, "source": 0.8, "last": 1.0}
_STALLED_SECONDS = 30.0
# At least so long the lag is measured before each switchover.
_STREAM_SECONDS = 2.0
_SAMPLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Options:
    """What to rehearse; ``scale`` 1 is 100 MB of history and 20,000 writes."""

    source_version: int = 17
    target_version: int = 18
    scale: float = 1.0
    clients: int = 8
    router: Literal["multihost", "pgbouncer", "route53"] = "multihost"
    engine: Literal["native", "dms"] = "native"


@dataclass(slots=True)
class Stage:
    """One line of the programme; times of ``time.monotonic``, 0 = not yet."""

    title: str
    began: float = 0.0
    ended: float = 0.0


class Rehearsal:
    """One run. ``rate_per_second`` limits what all clients write together; None: as fast as they can.
    ``writes``: how many are wanted at scale 1 and above.

    ``stages``, ``doing``, ``acknowledged`` and ``lag_ms`` may be read by another thread."""

    rate_per_second: float | None = None
    writes = 20_000

    def __init__(self, options: Options) -> None:
        self.options = options
        self.stages: list[Stage] = []
        self.doing = ""
        self.lag_ms: list[float] = []
        self.shares: list[MeasuredShare] = []
        self.events: dict[str, int] = {}
        self._times: dict[tuple[str, Step | None], float] = {}
        self._workload: Workload | None = None

    @property
    def acknowledged(self) -> int:
        """Writes that clients were told are committed, so far."""
        return 0 if self._workload is None else self._workload.ledger.acknowledged

    def run(self) -> RehearsalResult:
        """Do all of it; servers, clients and files are gone afterwards, whatever happens.

        Raises DaybreakError where a step failed, ConfigError where a server or PgBouncer is missing."""
        began = time.monotonic()
        with ExitStack() as stack:
            pair, way, runtime = self._set_up(stack)
            rate, clients = self.rate_per_second, self.options.clients
            self._workload = stack.enter_context(Workload(pair, clients=clients, rate_per_second=rate, way=way))
            load = self._start(runtime)
            self._see_ready()
            verified = self._verify(runtime)
            self._shift(runtime)
            switchovers = (
                self._switch(runtime, Verb.CUTOVER),
                self._go_on(runtime, "write on the target", "target", Verb.ROLLBACK),
                self._go_on(runtime, "write on the source", "source", Verb.CUTOVER),
            )
            with self._stage("write on the target"):
                self._write(runtime, "last")
            self._see_schedule()
            with self._stage("finish"):
                runtime.run(Verb.FINISH)
            with self._stage("hold the clients' ledger against the target"):
                ledger = self._judge(pair)
            self._clear_away()
        return RehearsalResult(
            source_version=self.options.source_version,
            target_version=self.options.target_version,
            router=self.options.router,
            engine=self.options.engine,
            seconds=round(time.monotonic() - began, 1),
            full_load=load,
            lag_ms=self._lag(),
            switchovers=switchovers,
            ledger=ledger,
            verify=verified,
            shares=tuple(self.shares),
            events=self.events,
        )

    # --- the stages

    def _set_up(self, stack: ExitStack) -> tuple[Pair, Way, Runtime]:
        options = self.options
        with self._stage("start both servers, fill the source"):
            pair = stack.enter_context(running_pair(options.source_version, options.target_version))
            payments.create(pair, options.scale)
        bouncer = stack.enter_context(Bouncer(pair)) if options.router == "pgbouncer" else None
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="daybreak-rehearsal-")))
        settings = load_settings(write_configuration(pair, directory, bouncer=bouncer))
        way = ByHosts(pair) if bouncer is None else ByBouncer(bouncer)
        return pair, way, stack.enter_context(build(settings, self._listen))

    def _start(self, runtime: Runtime) -> FullLoad:
        with self._stage("start: copy everything, stream what changes"):
            runtime.run(Verb.START)
            seen = self._sample(runtime)
        with self._stage("stream"):
            self._write(runtime, "first")
        seconds = self._times["done", Step.LOAD] - self._times["intend", Step.LOAD]
        return FullLoad(seen.rows_copied, seen.bytes_copied, round(seconds, 2))

    def _verify(self, runtime: Runtime) -> Verified:
        with self._stage("verify"):
            found = runtime.run(Verb.VERIFY).verification
        assert found is not None, "a verification that was done is recorded"
        incomplete = () if found.complete else ("not all tables were compared in time",)
        return Verified(found.tables, found.rows, round(found.seconds, 2), (*found.differences, *incomplete))

    def _see_ready(self) -> None:
        """Wait until whoever is woken by events has found the streams; nothing here."""

    def _see_schedule(self) -> None:
        """Wait until whoever looks by a schedule has done so; nothing here."""

    def _clear_away(self) -> None:
        """Take down what has to be taken down in order; nothing here."""

    def _shift(self, runtime: Runtime) -> None:
        # An entry of PgBouncer leads to one side: all reads or none.
        percent = 100 if self.options.router == "pgbouncer" else 50
        with self._stage(f"shift {percent} percent of reads"):
            runtime.run(Verb.SHIFT, percent)

    def _go_on(self, runtime: Runtime, title: str, share: str, verb: Verb) -> MeasuredSwitch:
        with self._stage(title):
            self._write(runtime, share)
        return self._switch(runtime, verb)

    def _switch(self, runtime: Runtime, verb: Verb) -> MeasuredSwitch:
        workload = self._running()
        began = time.monotonic()
        with self._stage(verb):
            done = runtime.run(verb).last_switchover
            self._wait_for(workload.ledger.acknowledged + self.options.clients)
        ended = time.monotonic()
        assert done is not None, "a switchover that was done is recorded"
        assert done.timings is not None, "nothing killed this process in between"
        told = [*workload.ledger.failures(began, ended), *workload.reader_failures]
        return MeasuredSwitch(
            to=done.to,
            write_pause_ms=round(done.timings.write_pause_ms, 1),
            client_gap_ms=round(workload.ledger.gap_ms(self._times["intend", Step.SWITCH], ended), 1),
            client_errors=sum(began <= failure.at <= ended for failure in told),
            certified=done.certificate is not None and done.certificate.clean,
        )

    def _judge(self, pair: Pair) -> LedgerResult:
        workload = self._running()
        workload.stop()
        report = workload.report(pair.dsn(Side.TARGET, APPLICATION))
        return LedgerResult(
            acknowledged=report.acknowledged,
            lost=report.lost + report.unbalanced,
            duplicated=report.duplicated + report.unknown,
            ambiguous=report.ambiguous,
        )

    # --- what they share

    @contextmanager
    def _stage(self, title: str) -> Iterator[None]:
        stage = Stage(title, began=time.monotonic())
        self.stages.append(stage)
        yield
        stage.ended = time.monotonic()
        self.doing = ""

    def _listen(self, event: Event) -> None:
        self._times[event.kind, event.step] = time.monotonic()
        if event.progress is not None:
            self.doing = event.progress.what
        elif event.kind != "done":
            self.doing = " ".join(filter(None, (event.step, event.text)))

    def _write(self, runtime: Runtime, share: str) -> None:
        """Let the clients write up to their ``share``, and measure the lag meanwhile."""
        goal = max(_FEWEST_WRITES, round(self.writes * min(1.0, self.options.scale))) * _SHARES[share]
        goal = max(goal, self.acknowledged + _FEWEST_WRITES)
        enough = time.monotonic() + _STREAM_SECONDS
        while time.monotonic() < enough:
            self._sample(runtime)
            time.sleep(_SAMPLE_SECONDS)
        self._wait_for(int(goal), lambda: self._sample(runtime))

    def _wait_for(self, goal: int, meanwhile: Callable[[], object] = lambda: None) -> None:
        before, since = self.acknowledged, time.monotonic()
        while self.acknowledged < goal:
            meanwhile()
            time.sleep(_SAMPLE_SECONDS)
            if self.acknowledged > before:
                before, since = self.acknowledged, time.monotonic()
            elif time.monotonic() - since > _STALLED_SECONDS:
                raise TransientError(
                    f"No client could write for {_STALLED_SECONDS:g} s.", "This is a bug; please report it."
                )

    def _sample(self, runtime: Runtime) -> ReplicationStatus:
        seen = runtime.controller.observe().replication
        if seen.lag_seconds is not None:
            self.lag_ms.append(seen.lag_seconds * 1000)
        return seen

    def _lag(self) -> Lag:
        if len(self.lag_ms) < 2:
            raise DaybreakError("The lag could not be measured.", "See the servers' logs.")
        cuts = statistics.quantiles(self.lag_ms, n=100, method="inclusive")
        return Lag(round(cuts[49], 1), round(cuts[98], 1))

    def _running(self) -> Workload:
        assert self._workload is not None, "clients run before any verb"
        return self._workload
