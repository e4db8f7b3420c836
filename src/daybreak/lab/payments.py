"""The rehearsal's application database: a payments schema (``payments.sql``) and its history."""

from __future__ import annotations

from importlib.resources import files

from daybreak.lab.pair import OWNER, Pair
from daybreak.model import Side

SCHEMA = "payments"


def create(pair: Pair, scale: float = 1.0) -> None:
    """Make and fill the schema in the source's database, as its owner. The target stays empty.

    ``scale`` 1 is about 180,000 rows and 100 MB; sizes grow in proportion, and below that at least
    ten rows are in every table."""
    with pair.connect(Side.SOURCE, OWNER) as connection:
        connection.execute("SELECT set_config('payments.scale', %s, false)", (str(scale),))
        for script in ("payments.sql", "payments_fill.sql"):
            connection.execute((files(__package__) / script).read_bytes())
    with pair.connect(Side.SOURCE) as postgres:
        # Or the first writes of a workload stall while the server flushes the history.
        postgres.execute("CHECKPOINT")
