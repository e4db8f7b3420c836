"""A streaming migration that many tests use one after the other, for starting one takes its time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from rehearsal.world import World

from daybreak.lab.cluster import Cluster
from daybreak.lab.pair import Pair
from daybreak.model import Side

_numbers = count(1)


class Shared:
    """Makes the migration when it is first asked for, and anew after a test that failed."""

    def __init__(self, source: Cluster, target: Cluster, directory: Path, limits: Mapping[str, float]) -> None:
        self._clusters = source, target
        self._directory = directory
        self._limits = limits
        self._world: World | None = None
        self._stack = ExitStack()

    @contextmanager
    def streaming(self) -> Iterator[World]:
        """The migration, verified, with the source as primary; leave it so."""
        world = self._world or self._make()
        try:
            yield world
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it, if there is one."""
        self._world = None
        self._stack.close()

    def _make(self) -> World:
        name = f"shared_{next(_numbers)}"
        directory = self._directory / name
        directory.mkdir(mode=0o700)
        pair = Pair.create(*self._clusters, name)
        self._stack.callback(pair.drop)
        world = self._stack.enter_context(World(pair, directory, self._limits))
        world.must("start", "verify")
        assert world.probes.primaries() == [Side.SOURCE]
        self._world = world
        return world
