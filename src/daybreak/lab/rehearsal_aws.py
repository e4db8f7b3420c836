"""The rehearsal with its AWS side: the stack applied on emulated AWS, the packaged function acting on what the
commands ask for, clients that find the database by Route 53's names.

The servers are real, Terraform is real, the function is the package that would be deployed. AWS itself is not:
what this shows of AWS is no more than what its emulators know of it."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from daybreak.config import load_settings
from daybreak.lab import payments
from daybreak.lab.cloud import ZONE, Cloud, emulated_account, require_terraform, sections
from daybreak.lab.configuration import write_configuration
from daybreak.lab.pair import Pair, running_pair
from daybreak.lab.rehearsal import Options, Rehearsal
from daybreak.lab.resolving import Resolver, tolerance
from daybreak.lab.result import MeasuredShare
from daybreak.lab.ways import ByName, Way
from daybreak.model import Phase, Side, Verb
from daybreak.wiring import Runtime, build

_NAME = "rehearsal"
_SHARES = (20, 50, 80, 100)
_ANSWERS = 400
# What stands in for DMS applies row by row, in Python.
_DMS_RATE_PER_SECOND, _DMS_WRITES = 30.0, 2_000
_DAY_SECONDS = 86_400.0
# The schedule wakes the function every minute, but not while it runs.
_EVENT_SECONDS = 120.0


class AwsRehearsal(Rehearsal):
    """One run on emulated AWS; see ``Rehearsal``. Raises ConfigError where Terraform or an emulator is missing."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        if options.engine == "dms":
            self.rate_per_second, self.writes = _DMS_RATE_PER_SECOND, _DMS_WRITES
        self._cloud: Cloud | None = None
        self._sampling: Resolver | None = None

    def _set_up(self, stack: ExitStack) -> tuple[Pair, Way, Runtime]:
        options = self.options
        require_terraform()  # before anything is started for it
        with self._stage("start both servers, fill the source"):
            pair = stack.enter_context(running_pair(options.source_version, options.target_version, tls=True))
            payments.create(pair, options.scale)
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="daybreak-rehearsal-")))
        emulated = stack.enter_context(emulated_account())
        config = write_configuration(pair, directory, name=_NAME, more=sections(pair, _NAME, options.engine))
        with self._stage("apply the stack to emulated AWS"):
            self._cloud = Cloud(config, _NAME, pair, emulated)
            self._cloud.deploy()
        if options.engine == "dms":
            stack.enter_context(self._cloud.stand_in())
        server, hosts = stack.enter_context(self._cloud.name_server())
        # Answers that are never kept: each is a choice of the name server's.
        self._sampling = Resolver(server.address, server.port, hosts, clock=partial(next, count(0.0, _DAY_SECONDS)))
        resolver = Resolver(server.address, server.port, hosts)
        runtime = stack.enter_context(build(load_settings(config), self._listen))
        return pair, ByName(pair, resolver, f"db-rw.{ZONE}", f"db-ro.{ZONE}"), runtime

    def _shift(self, runtime: Runtime) -> None:
        for percent in _SHARES:
            with self._stage(f"shift {percent} percent of reads"):
                runtime.run(Verb.SHIFT, percent)
                self.shares.append(self._measured_share(percent))

    def _see_ready(self) -> None:
        """Nobody has called the function yet: that it looks and finds the streams is an event's doing."""
        if self.options.engine == "dms":
            self._see_event("dms")

    def _see_schedule(self) -> None:
        # Here, and not as soon as it is on: by now most of its first minute is over.
        self._see_event("schedule")

    def _see_event(self, sender: str) -> None:
        assert self._cloud is not None, "deployed before"
        with self._stage(f"see the function woken by an event ({sender})"):
            self._cloud.witness.wait_for(sender, Phase.STREAMING, _EVENT_SECONDS)

    def _clear_away(self) -> None:
        assert self._cloud is not None, "deployed before"
        self.events = self._cloud.witness.events()
        with self._stage("destroy the stack"):
            self._cloud.destroy()

    def _measured_share(self, weight: int) -> MeasuredShare:
        assert self._sampling is not None, "there is a name server since the stack was applied"
        name = f"db-ro.{ZONE}"
        led = [self._sampling.resolve(name).side for _ in range(_ANSWERS)]
        percent = 100 * led.count(Side.TARGET) / _ANSWERS
        fits = abs(percent - weight) <= 100 * tolerance(_ANSWERS)
        return MeasuredShare(weight, round(percent, 1), _ANSWERS, fits)
