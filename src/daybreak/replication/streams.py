"""One logical replication stream from a publisher to a subscriber: its publication, role, slot and
subscription, each created, looked at and removed by an idempotent function.

PostgreSQL docs: "Logical Replication", CREATE PUBLICATION, CREATE SUBSCRIPTION. The subscription never
owns its slot (``create_slot = false``, ``slot_name = NONE`` before dropping), so that no server ever has
to reach the other one to be cleaned up.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import errors, sql

from daybreak.errors import TransientError
from daybreak.model import Lsn, Side, TableName
from daybreak.postgres import secret
from daybreak.postgres.guard import longest_transaction
from daybreak.postgres.server import Connection, Server

_TOKEN = TableName("daybreak", "token")
# From here on a subscription can skip what arrived by replication (docs, "origin" parameter).
ORIGIN_FILTER_VERSION = 160000


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream as the catalogs of both servers say. Bytes of WAL of the publisher.

    ``running``: subscription enabled, its apply worker alive. ``unready`` tables are not in state r."""

    subscribed: bool = False
    enabled: bool = False
    running: bool = False
    slot_present: bool = False
    slot_lost: bool = False
    lag_bytes: int | None = None
    retained_wal_bytes: int | None = None
    unready: tuple[str, ...] = ()
    apply_errors: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """A direction of replication. All methods take open connections and hold no state."""

    migration: str
    publisher: Server
    subscriber: Server

    @property
    def publication(self) -> str:
        """The publication's name, the same on both servers."""
        return f"daybreak_{self.migration}"

    @property
    def slot(self) -> str:
        """Name of slot and subscription."""
        return f"daybreak_{self.migration}_{'fwd' if self.publisher.side is Side.SOURCE else 'rev'}"

    @property
    def role(self) -> str:
        """The role as which the subscriber connects, made for this migration."""
        return f"daybreak_{self.migration}_repl"

    # --- the publisher's side

    def ensure_publication(self, publisher: Connection, tables: Iterable[TableName]) -> None:
        """Publish exactly ``tables`` and the token table, all operations, leaf tables under their own names."""
        wanted = sorted({*tables, _TOKEN})
        names = sql.SQL(", ").join(sql.Identifier(t.schema, t.name) for t in wanted)
        publication = sql.Identifier(self.publication)
        if self.published(publisher) is None:
            publisher.execute(sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(publication, names))
        else:
            publisher.execute(sql.SQL("ALTER PUBLICATION {} SET TABLE {}").format(publication, names))

    def published(self, publisher: Connection) -> frozenset[TableName] | None:
        """The user tables in the publication; None where there is no publication."""
        exists = publisher.execute("SELECT 1 FROM pg_publication WHERE pubname = %s", [self.publication]).fetchone()
        if exists is None:
            return None
        rows = publisher.execute(
            "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = %s", [self.publication]
        )
        return frozenset(TableName(str(a), str(b)) for a, b in rows) - {_TOKEN}

    def ensure_role(self, publisher: Connection, owners: Iterable[str]) -> None:
        """Create the replication role, without a password yet.

        Being a member of the tables' ``owners`` it may read them for PostgreSQL's own first copy of a
        table that joins later, past row-level security; GRANTs on the tables would change every relacl
        for good. On RDS the attribute REPLICATION is a role (``rds_replication``)."""
        role = sql.Identifier(self.role)
        if publisher.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [self.role]).fetchone() is None:
            publisher.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
        if publisher.execute("SELECT 1 FROM pg_roles WHERE rolname = 'rds_replication'").fetchone() is not None:
            publisher.execute(sql.SQL("GRANT rds_replication TO {}").format(role))
        else:
            publisher.execute(sql.SQL("ALTER ROLE {} REPLICATION").format(role))
        grantable = publisher.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) AND rolname <> session_user AND NOT rolsuper"
            " AND pg_has_role(oid, 'MEMBER WITH ADMIN OPTION')",
            [list(owners)],
        ).fetchall()
        for (owner,) in grantable:
            publisher.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(str(owner)), role))

    def ensure_slot(self, publisher: Connection) -> None:
        """Create the slot at the present position. It waits for transactions that are open now, 10 s at
        most; then raises TransientError naming the oldest (docs, "Logical Decoding": replication slots)."""
        if self.slot_present(publisher):
            return
        with self._naming_the_blocker(publisher):
            publisher.execute("SET lock_timeout = '10s'")
            try:
                publisher.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [self.slot])
            finally:
                publisher.execute("SET lock_timeout = 0")

    def create_slot_with_snapshot(self, publisher: Connection) -> tuple[Connection, str]:
        """Create the slot on a session of its own and export the snapshot of its starting point.

        Returns that session and the snapshot's name; the snapshot is good while the session stays open
        and idle (docs, "Streaming Replication Protocol", CREATE_REPLICATION_SLOT). ``publisher`` is
        another session, asked who blocks where the creation has to wait longer than 10 s."""
        session = self.publisher.connect("slot", replication=True)
        try:
            with self._naming_the_blocker(publisher):
                session.execute("SET lock_timeout = '10s'")
                create = sql.SQL("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput EXPORT_SNAPSHOT")
                row = session.execute(create.format(sql.Identifier(self.slot))).fetchone()
        except BaseException:
            session.close()
            raise
        assert row is not None, "CREATE_REPLICATION_SLOT returns one row"
        return session, str(row[2])

    @contextmanager
    def _naming_the_blocker(self, publisher: Connection) -> Iterator[None]:
        try:
            yield
        except errors.LockNotAvailable as error:
            raise TransientError(
                f"{self.publisher.side}: slot {self.slot} has to wait for an open transaction"
                f" {longest_transaction(publisher)[1]}".rstrip(),
                "End that transaction; nothing else is held up by this.",
            ) from error

    def slot_present(self, publisher: Connection) -> bool:
        """Whether the slot exists, lost or not."""
        return self._slot_row(publisher) is not None

    def advance_slot(self, publisher: Connection) -> None:
        """Move the slot past everything that this server has in its WAL now."""
        publisher.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [self.slot])

    def drop_slot(self, publisher: Connection, patience_seconds: float = 10.0) -> None:
        """Drop the slot, ending its walsender first."""
        deadline = time.monotonic() + patience_seconds
        while True:
            row = publisher.execute(
                "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", [self.slot]
            ).fetchone()
            if row is None:
                return
            if row[0] is not None:
                publisher.execute("SELECT pg_terminate_backend(%s)", [row[0]])
            try:
                publisher.execute("SELECT pg_drop_replication_slot(%s)", [self.slot])
            except (errors.ObjectInUse, errors.UndefinedObject):
                time.sleep(0.05)
            if time.monotonic() > deadline:
                raise TransientError(
                    f"{self.publisher.side}: slot {self.slot} is still in use.", "See pg_replication_slots.active_pid."
                )

    def drop_publication(self, publisher: Connection) -> None:
        """Drop the publication."""
        publisher.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(self.publication)))

    def drop_role(self, publisher: Connection) -> None:
        """Drop the replication role, ending its sessions."""
        if publisher.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [self.role]).fetchone() is None:
            return
        publisher.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [self.role])
        publisher.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(self.role)))

    # --- the subscriber's side

    def subscribe(self, publisher: Connection, subscriber: Connection, *, enabled: bool, origin_filter: bool) -> None:
        """Create the subscription on the existing slot, copying nothing: the tables published now are
        taken as being in step with the slot's position. Does nothing where it exists."""
        if self.subscription_exists(subscriber):
            return
        password = secrets.token_urlsafe(24)
        self._set_password(publisher, password)
        both = min(publisher.info.server_version, subscriber.info.server_version)
        options = {"enabled": enabled, "slot_name": self.slot, "create_slot": False, "copy_data": False}
        options["streaming"] = "parallel" if both >= ORIGIN_FILTER_VERSION else True
        if origin_filter:
            options["origin"] = "none"
        template = sql.SQL("CREATE SUBSCRIPTION {} CONNECTION %L PUBLICATION {} WITH ({})").format(
            sql.Identifier(self.slot),
            sql.Identifier(self.publication),
            sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.SQL(key), sql.Literal(value)) for key, value in options.items()
            ),
        )
        secret.execute_with_secret(subscriber, template, self.publisher.peer_conninfo(self.role, password, self.slot))

    def subscription_exists(self, subscriber: Connection) -> bool:
        """Whether the subscription is there."""
        return self._subscription(subscriber) is not None

    def enable(self, subscriber: Connection) -> None:
        """Let the subscription apply."""
        subscriber.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(self.slot)))

    def disable(self, subscriber: Connection) -> None:
        """Stop the subscription and wait until its workers are gone."""
        if not self.subscription_exists(subscriber):
            return
        subscriber.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(self.slot)))
        deadline = time.monotonic() + 10.0
        while self._workers(subscriber):
            if time.monotonic() > deadline:
                raise TransientError(f"{self.subscriber.side}: {self.slot} does not stop.", "See pg_stat_subscription.")
            time.sleep(0.002)

    def refresh(self, subscriber: Connection, *, copy_data: bool) -> None:
        """Take in tables that were published since; with ``copy_data`` PostgreSQL copies them first
        and lets them catch up (docs, ALTER SUBSCRIPTION .. REFRESH PUBLICATION)."""
        subscriber.execute(
            sql.SQL("ALTER SUBSCRIPTION {} REFRESH PUBLICATION WITH (copy_data = {})").format(
                sql.Identifier(self.slot), sql.Literal(copy_data)
            )
        )

    def subscribed_tables(self, subscriber: Connection) -> frozenset[TableName]:
        """The tables that the subscription knows, the token table apart."""
        rows = subscriber.execute(
            "SELECT n.nspname, c.relname FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid"
            " JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE s.subname = %s",
            [self.slot],
        )
        return frozenset(TableName(str(a), str(b)) for a, b in rows) - {_TOKEN}

    def unsubscribe(self, subscriber: Connection) -> None:
        """Drop the subscription without talking to the publisher; its slot stays."""
        if not self.subscription_exists(subscriber):
            return
        name = sql.Identifier(self.slot)
        with subscriber.transaction():
            subscriber.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(name))
            subscriber.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(name))
        subscriber.execute(sql.SQL("DROP SUBSCRIPTION {}").format(name))

    # --- looking

    def status(self, publisher: Connection, subscriber: Connection) -> StreamStatus:
        """What both catalogs say now."""
        slot = self._slot_row(publisher)
        subscription = self._subscription(subscriber)
        if subscription is None:
            return StreamStatus(slot_present=slot is not None, slot_lost=slot is not None and slot[0] == "lost")
        oid, enabled = subscription
        unready = subscriber.execute(
            "SELECT n.nspname || '.' || c.relname FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.srsubid = %s AND r.srsubstate <> 'r' ORDER BY 1",
            [oid],
        ).fetchall()
        return StreamStatus(
            subscribed=True,
            enabled=enabled,
            running=enabled and self._workers(subscriber) > 0,
            slot_present=slot is not None,
            slot_lost=slot is not None and slot[0] == "lost",
            lag_bytes=None if slot is None else slot[1],
            retained_wal_bytes=None if slot is None else slot[2],
            unready=tuple(str(row[0]) for row in unready),
            apply_errors=self._apply_errors(subscriber, oid),
        )

    def _slot_row(self, publisher: Connection) -> tuple[str, int | None, int | None] | None:
        row = publisher.execute(
            "SELECT wal_status, confirmed_flush_lsn::text, restart_lsn::text, pg_current_wal_lsn()::text"
            " FROM pg_replication_slots WHERE slot_name = %s",
            [self.slot],
        ).fetchone()
        if row is None:
            return None
        now = Lsn.parse(str(row[3]))
        behind, kept = (None if text is None else now - Lsn.parse(str(text)) for text in row[1:3])
        return str(row[0]), behind, kept

    def _subscription(self, subscriber: Connection) -> tuple[int, bool] | None:
        row = subscriber.execute(
            "SELECT oid, subenabled FROM pg_subscription WHERE subname = %s"
            " AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
            [self.slot],
        ).fetchone()
        return None if row is None else (int(str(row[0])), bool(row[1]))

    def _workers(self, subscriber: Connection) -> int:
        row = subscriber.execute(
            "SELECT count(pid) FROM pg_stat_subscription WHERE subname = %s", [self.slot]
        ).fetchone()
        return 0 if row is None else int(str(row[0]))

    def _apply_errors(self, subscriber: Connection, oid: int) -> int:
        if subscriber.info.server_version < 150000:  # pg_stat_subscription_stats came with 15
            return 0
        row = subscriber.execute(
            "SELECT apply_error_count + sync_error_count FROM pg_stat_subscription_stats WHERE subid = %s", [oid]
        ).fetchone()
        return 0 if row is None else int(str(row[0]))

    def _set_password(self, publisher: Connection, password: str) -> None:
        """The verifier is made here, so that not even the statement's text holds the password."""
        verifier = publisher.pgconn.encrypt_password(password.encode(), self.role.encode(), b"scram-sha-256")
        publisher.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(self.role), sql.Literal(verifier.decode()))
        )
