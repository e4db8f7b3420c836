"""Standing connections of a controller that was replaced: they may look, and they act no more."""

from __future__ import annotations

from contextlib import closing

import pytest
from support import server_of

from daybreak.errors import StateConflict
from daybreak.lab.pair import Pair
from daybreak.model import Side
from daybreak.postgres import control
from daybreak.postgres.sessions import Sessions


def test_a_replaced_controller_that_reconnects_may_only_look(pair: Pair) -> None:
    servers = server_of(pair, Side.SOURCE), server_of(pair, Side.TARGET)
    with closing(Sessions(*servers)) as old, closing(Sessions(*servers)) as new:
        control.install(old.get(Side.SOURCE), servers[0].migration, Side.SOURCE)
        control.raise_generation(old.get(Side.SOURCE), servers[0].migration, "old", 1)
        old.rename(1)
        assert old.get(Side.SOURCE).execute("SELECT 1").fetchone() == (1,)
        control.raise_generation(new.get(Side.SOURCE), servers[0].migration, "new", 2)
        control.end_sessions(new.get(Side.SOURCE), servers[0].migration, 2)
        old.rename(1)  # what a lost connection comes to
        with pytest.raises(StateConflict, match="new, generation 2"):
            old.get(Side.SOURCE)
        assert old.look(Side.SOURCE).execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(StateConflict):
            old.get(Side.SOURCE)
