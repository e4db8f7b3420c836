"""A migration under load whose controllers are processes of their own, so that they can be killed: the
clients, their ledger and the probes live here and go on."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil
from rehearsal import driver
from rehearsal.probes import Probes

from daybreak.config import load_settings
from daybreak.events import Listener
from daybreak.lab import payments
from daybreak.lab.bouncer import Bouncer
from daybreak.lab.configuration import Section, write_configuration
from daybreak.lab.pair import APPLICATION, Pair
from daybreak.lab.ways import ByBouncer, Way
from daybreak.lab.workload import Workload
from daybreak.model import Side
from daybreak.wiring import Runtime, build

SCALE = 0.02
_FEW = 10
_RUN_SECONDS = 120.0
_LIMITS: Mapping[str, float] = {"max_write_pause_seconds": 3.0, "gate_patience_seconds": 20.0}


# Controllers are forked from a process that has imported everything and has no threads.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["pytest", "rehearsal.driver"])


@dataclass(frozen=True)
class Ended:
    """How a controller ended: the signal that killed it, if one did, and what it said before."""

    signal: int
    said: Mapping[str, str]

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.signal == signal.SIGKILL

    @property
    def error(self) -> str:
        """The class of the error with which it ended, or the empty string."""
        return self.said.get("error", "")


class Driven:
    """A controller in a process of its own."""

    def __init__(self, main: Callable[..., None], *arguments: object) -> None:
        self._answer, sending = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(target=main, args=(*arguments, sending), daemon=True)
        self._process.start()
        sending.close()

    def wait_until_stopped(self) -> None:
        """Wait until it has sent itself SIGSTOP."""
        there = psutil.Process(self._process.pid)
        while there.status() != psutil.STATUS_STOPPED:
            assert self._process.is_alive(), "it ended before it came to that point"
            time.sleep(0.01)

    def wake(self) -> None:
        """Send it SIGCONT."""
        psutil.Process(self._process.pid).resume()

    def end(self) -> Ended:
        """Wait for its end."""
        self._process.join(_RUN_SECONDS)
        code = self._process.exitcode
        assert code is not None, "it does not end"
        with self._answer:
            said = self._answer.recv() if self._answer.poll() and code == 0 else {}
        self._process.close()
        return Ended(max(0, -code), said)


@dataclass
class World:
    """One migration of ``pair``. Use as a context manager: clients write and probes ask inside it."""

    pair: Pair
    directory: Path
    limits: Mapping[str, float] = field(default_factory=dict)
    bouncer: Bouncer | None = None
    way: Way | None = None
    clients: int = 4
    rate_per_second: float = 150.0
    scale: float = SCALE
    replication: Mapping[str, str | int] = field(default_factory=dict)
    more: Mapping[str, Section] = field(default_factory=dict)
    # For the controllers; they are forked from a process that was started earlier.
    environment: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        payments.create(self.pair, self.scale)
        self.config = write_configuration(
            self.pair,
            self.directory,
            name=self.name,
            bouncer=self.bouncer,
            cutover={**_LIMITS, **self.limits},
            replication={"jobs": 2, **self.replication},
            more=self.more,
        )
        with ExitStack() as stack:
            rate = self.rate_per_second
            way = self.way if self.bouncer is None else ByBouncer(self.bouncer)
            self.workload = Workload(self.pair, clients=self.clients, rate_per_second=rate, way=way)
            stack.enter_context(self.workload)
            self.probes = stack.enter_context(Probes(self.pair))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def drive(self, verb: str, point: str = "", action: str = "KILL") -> Driven:
        """Start a controller that runs ``verb``; at ``point`` it sends ``action`` to itself."""
        return Driven(driver.main, self.config, verb, point, action, self.environment)

    def invoke(self, request: Mapping[str, str], point: str = "") -> Ended:
        """What the function on AWS does with ``request``, to its end; killed at ``point``."""
        return Driven(driver.invoke, self.config, request, point, "KILL", self.environment).end()

    def run(self, verb: str, point: str = "", action: str = "KILL") -> Ended:
        """``drive``, to its end."""
        return self.drive(verb, point, action).end()

    def must(self, *verbs: str) -> None:
        """Run ``verbs`` one after the other; all must succeed."""
        for verb in verbs:
            found = self.run(verb)
            assert not found.error, (verb, found.said)
            assert found.said, (verb, found.signal)

    @property
    def name(self) -> str:
        """The migration's name: slots and roles are the whole server's, and servers are shared."""
        return self.pair.database

    @contextmanager
    def runtime(self, listener: Listener = lambda _event: None) -> Iterator[Runtime]:
        """A runtime in this process."""
        with build(load_settings(self.config), listener) as runtime:
            yield runtime

    def writes_go_on(self) -> None:
        """Clients are acknowledged again; raises TimeoutError where they are not."""
        self.workload.wait_for_writes(_FEW, timeout_seconds=30.0)

    def books_are_clean(self, primary: Side) -> None:
        """Stop the clients, hold their ledger against ``primary``, and let them go on."""
        self.workload.stop()
        report = self.workload.report(self.pair.dsn(primary, APPLICATION))
        assert report.clean, report
        self.workload.start()
