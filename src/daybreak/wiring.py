"""The only place where settings become objects: stores, sessions, routers and the controller over them.

Nothing is connected here; every connection is opened when it is first needed."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Self

from daybreak.config import Settings
from daybreak.config.names import Names
from daybreak.controller import Controller
from daybreak.errors import AdapterError, ConfigError, ControllerAtWork, Finding, TransientError
from daybreak.events import Event, Listener, utc_now
from daybreak.model import MigrationRecord, Policy, Side, Step, Verb
from daybreak.ports import Replicator, Router, StateStore, Switch
from daybreak.postgres.control import fenced
from daybreak.postgres.server import Connection, Server, translated
from daybreak.postgres.sessions import Sessions
from daybreak.preflight import run_checks
from daybreak.remote import Remote, refuse_beside
from daybreak.replication.dms import DmsReplicator
from daybreak.replication.native import NativeReplicator
from daybreak.store.sqlite import SqliteStateStore
from daybreak.switchover.adapter import PostgresSwitch
from daybreak.traffic.multihost import MultihostRouter
from daybreak.traffic.pgbouncer import PgBouncerRouter
from daybreak.wiring_aws import Account


@dataclass(frozen=True)
class Runtime:
    """One migration with its adapters; a context manager that closes all connections."""

    settings: Settings
    store: StateStore
    sessions: Sessions
    replicator: Replicator
    router: Router
    switch: Switch
    preflight: Callable[[], tuple[Finding, ...]]
    controller: Controller
    remote: Remote
    schedule: Callable[[bool], None] = lambda _on: None
    # Repairs the copy of the record that others read, where one is published.
    refresh: Callable[[], None] = lambda: None
    closers: tuple[Callable[[], None], ...] = ()

    def run(self, verb: Verb, percent: int | None = None) -> MigrationRecord:
        """Bring ``verb`` about: here, or by asking whoever leads this migration. Raises as ``Controller.run``.

        A migration on AWS is led by its function, but for ``start``: the schema needs pg_dump, and a load takes
        longer than a function may run. ``abort`` also reaches a command that runs elsewhere."""
        led_elsewhere = self.settings.state.on_aws
        if led_elsewhere and verb is not Verb.START:
            return self.remote.run(verb, percent)
        if led_elsewhere:
            before = self.controller.record()
            if before.intent is not None and before.intent.verb is not Verb.START:
                refuse_beside(before, verb)
            record = self.controller.run(verb)
            # From here on it only looks: as a controller it would keep the function from acting.
            self.sessions.rename(0)
            self.schedule(True)
            self.remote.wake()
            return record
        try:
            return self.controller.run(verb, percent)
        except ControllerAtWork:
            if verb is not Verb.ABORT:
                raise
            return self.remote.run(verb)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for close in (*self.closers, self.sessions.close):
            close()


def build(settings: Settings, listener: Listener = lambda _event: None, actor: str = "") -> Runtime:
    """The runtime of ``settings``; ``listener`` hears what the controller does. ``actor`` is who acts, as
    people recognise them; by default this process.

    Raises ConfigError where the settings of router or engine can't be used."""
    account = _account(settings)
    sessions = Sessions(server(settings, Side.SOURCE), server(settings, Side.TARGET))
    replicator = _replicator(settings, sessions, account)
    router = _router(settings, sessions, account)
    switch = _switch(settings, sessions)
    preflight = partial(run_checks, settings, sessions)

    def compose(store: StateStore, listener: Listener = listener) -> Controller:
        return Controller(
            name=settings.name,
            store=store,
            replicator=replicator,
            router=router,
            switch=switch,
            policy=settings.policy(),
            owner=actor or owner(),
            listener=listener,
            preflight=preflight,
        )

    closers = (replicator.close, switch.close)
    parts = sessions, replicator, router, switch, preflight
    if not settings.state.on_aws:
        local = SqliteStateStore.from_url(settings.state.url)
        controller = compose(local)
        remote = Remote(settings.name, local, listener, router.refuse_shift, act=controller.run)
        return Runtime(settings, local, *parts, controller, remote, closers=closers)
    on_aws = _needed(account, "state.url")
    table = on_aws.store(settings.state, lambda: controller.lag_seconds)
    controller = compose(table, waking(listener, on_aws.schedule))
    remote = Remote(settings.name, table, listener, router.refuse_shift, on_aws.wake)
    refresh = partial(table.refresh, settings.name)
    return Runtime(
        settings,
        table,
        *parts,
        controller,
        remote,
        schedule=on_aws.schedule,
        refresh=lambda: refresh(utc_now()),
        closers=(*closers, table.flush),
    )


def waking(listener: Listener, schedule: Callable[[bool], None]) -> Listener:
    """``listener``, and the function's looks from the moment on that there is something to see: it publishes how far
    the load is. What keeps ``schedule`` from being turned on is better known before a load of hours than after."""

    def hear(event: Event) -> None:
        listener(event)
        if (event.kind, event.step) == ("done", Step.BEGIN):
            schedule(True)

    return hear


def _account(settings: Settings) -> Account | None:
    return None if settings.aws is None else Account(settings.aws, Names(settings.name, settings.aws.environment))


def _needed(account: Account | None, key: str) -> Account:
    if account is None:
        raise ConfigError(f"{key} is about AWS, but the section [aws] is missing.", "Add the section.")
    return account


def _replicator(settings: Settings, sessions: Sessions, account: Account | None) -> NativeReplicator:
    rules = settings.replication
    common = (
        settings.name, sessions, rules.include, rules.exclude, rules.jobs, rules.client_bin, settings.policy(),
    )  # fmt: skip
    if rules.engine == "native":
        return NativeReplicator(*common)
    aws = _needed(account, "replication.engine")
    return DmsReplicator(*common, task=aws.dms_task(), role=aws.settings.dms.user)


def _switch(settings: Settings, sessions: Sessions) -> PostgresSwitch:
    rules, policy = settings.replication, _hold_policy(settings, settings.policy())
    return PostgresSwitch(settings.name, sessions, rules.include, rules.exclude, rules.jobs, policy)


def _hold_policy(settings: Settings, policy: Policy) -> Policy:
    """PgBouncer's pause may take half of the time that writers can be made to wait; the hold has the rest."""
    if settings.traffic.router != "pgbouncer":
        return policy
    return replace(policy, max_write_pause_seconds=policy.max_write_pause_seconds / 2)


def server(settings: Settings, side: Side) -> Server:
    """How ``side`` is reached, by Daybreak and by the other server."""
    here = settings.server(side)
    return Server(side, settings.name, here.parameters(), here.peer_parameters())


def owner() -> str:
    """This process, as people recognise it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"


def _router(settings: Settings, sessions: Sessions, account: Account | None) -> Router:
    servers = {side: sessions.server(side) for side in Side}
    traffic, still_ours = settings.traffic, partial(_still_ours, settings.name, sessions)
    if traffic.router == "route53":
        return _needed(account, "traffic.router").router(still_ours)
    if traffic.router == "pgbouncer":
        if traffic.pgbouncer is None:  # so it is for the function on AWS, which is not told the console's password
            raise ConfigError(
                "traffic.router is pgbouncer, but [traffic.pgbouncer] is not known here.",
                "Add the section. A controller on AWS can't lead PgBouncer: keep state.url a SQLite file.",
            )
        return PgBouncerRouter(traffic.pgbouncer, servers, still_ours)

    def check(connection: Connection) -> None:
        with fenced(connection, settings.name, sessions.generation):
            pass

    return MultihostRouter(servers, check)


def _still_ours(migration: str, sessions: Sessions) -> None:
    """Ask the servers that answer whether our generation still acts: routing must not wait for a dead one.

    Raises StateConflict where it doesn't, TransientError where no server answers."""
    silent = []
    for side in Side:
        try:
            with translated(str(side)), fenced(sessions.get(side), migration, sessions.generation):
                pass
        except AdapterError as error:
            silent.append(error.message)
    if len(silent) == len(Side):
        raise TransientError(f"Neither server answers: {'; '.join(silent)}", "Start them or mend the network.")
