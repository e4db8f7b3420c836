"""The only place where settings become objects: stores, sessions, routers and the controller over them.

Nothing is connected here; every connection is opened when it is first needed."""

from __future__ import annotations

import getpass
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from types import TracebackType
from typing import Self

from daybreak.aws.dms import DmsTask
from daybreak.aws.errors import translated as translated_aws
from daybreak.aws.session import impatient, open_session
from daybreak.config import Settings
from daybreak.config.names import FUNCTION, FUNCTION_LIMIT, SCHEDULE, TASK_RESOURCE_LIMIT, Names
from daybreak.controller import Controller, Listener
from daybreak.errors import AdapterError, ConfigError, ControllerAtWork, Finding, TransientError
from daybreak.model import MigrationRecord, Policy, Side, Verb
from daybreak.ports import Replicator, Router, StateStore, Switch
from daybreak.postgres.control import fenced
from daybreak.postgres.server import Connection, Server, translated
from daybreak.postgres.sessions import Sessions
from daybreak.preflight import run_checks
from daybreak.remote import Remote
from daybreak.replication.dms import DmsReplicator
from daybreak.replication.native import NativeReplicator
from daybreak.store.checkpoint import PublishingStore
from daybreak.store.dynamodb import DynamoStateStore
from daybreak.store.sqlite import SqliteStateStore
from daybreak.switchover.adapter import PostgresSwitch
from daybreak.traffic.multihost import MultihostRouter
from daybreak.traffic.pgbouncer import PgBouncerRouter
from daybreak.traffic.route53 import Route53Router

_LOG = logging.getLogger(__name__)


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
    led_elsewhere: bool = False
    schedule: Callable[[bool], None] = lambda _on: None
    closers: tuple[Callable[[], None], ...] = ()

    def run(self, verb: Verb, percent: int | None = None) -> MigrationRecord:
        """Bring ``verb`` about: here, or by asking whoever leads this migration. Raises as ``Controller.run``.

        A migration on AWS is led by its function, but for ``start``: the schema needs pg_dump, and a load takes
        longer than a function may run. ``abort`` also reaches a command that runs elsewhere."""
        if self.led_elsewhere and verb is not Verb.START:
            return self.remote.run(verb, percent)
        if self.led_elsewhere:
            record = self.controller.run(verb)
            # From here on it only looks: as a controller it would keep the function from acting.
            self.sessions.rename(0)
            self.schedule(True)
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
    store = _store(settings, lambda: None if controller.seen is None else controller.seen.replication.lag_seconds)
    sessions = Sessions(server(settings, Side.SOURCE), server(settings, Side.TARGET))
    rules, policy = settings.replication, settings.policy()
    replicator = _replicator(settings, sessions)
    router = _router(settings, sessions)
    switch = PostgresSwitch(
        settings.name, sessions, rules.include, rules.exclude, rules.jobs, _hold_policy(settings, policy)
    )
    preflight = partial(run_checks, settings, sessions)
    controller = Controller(
        name=settings.name,
        store=store,
        replicator=replicator,
        router=router,
        switch=switch,
        policy=policy,
        owner=actor or owner(),
        listener=listener,
        preflight=preflight,
    )
    led_elsewhere = settings.state.on_aws
    act = None if led_elsewhere else controller.run
    remote = Remote(settings.name, store, listener, router.refuse_shift, _wake(settings), act)
    flush = (store.flush,) if isinstance(store, PublishingStore) else ()
    closers = (replicator.close, switch.close, *flush)
    return Runtime(
        settings,
        store,
        sessions,
        replicator,
        router,
        switch,
        preflight,
        controller,
        remote,
        led_elsewhere,
        partial(_schedule, settings),
        closers,
    )


def _store(settings: Settings, lag_seconds: Callable[[], float | None]) -> StateStore:
    if settings.aws is None or not settings.state.on_aws:
        return SqliteStateStore.from_url(settings.state.url)
    session, names = open_session(settings.aws.region), Names(settings.name, settings.aws.environment)
    table = DynamoStateStore(session.client("dynamodb"), settings.state.url.removeprefix("dynamodb://"))
    alias, kms = f"alias/{names.of('operations', limit=250)}", session.client("kms")

    @cache
    def key() -> str:  # by its ARN, as Terraform knows it: another spelling would be a change to Terraform
        return settings.state.key or kms.describe_key(KeyId=alias)["KeyMetadata"]["Arn"]

    # Nobody waits for a checkpoint: the next change publishes it again.
    ssm = session.client("ssm", config=impatient())
    return PublishingStore(table, ssm, names.path("state"), key, lag_seconds)


def _schedule(settings: Settings, on: bool) -> None:
    """Turn on or off what makes the function look every minute. Raises TransientError or PermanentError."""
    if settings.aws is None or not settings.state.on_aws:
        return
    rule = Names(settings.name, settings.aws.environment).of(SCHEDULE, FUNCTION_LIMIT)
    client = open_session(settings.aws.region).client("events")
    with translated_aws(f"turning the schedule {rule} {'on' if on else 'off'}"):
        if on:
            client.enable_rule(Name=rule)
        else:
            client.disable_rule(Name=rule)


def _wake(settings: Settings) -> Callable[[], None]:
    """Have the function on AWS look at once; without that its schedule makes it look within a minute."""
    if settings.aws is None or not settings.state.on_aws:
        return lambda: None
    function = Names(settings.name, settings.aws.environment).of(FUNCTION, FUNCTION_LIMIT)
    client = open_session(settings.aws.region).client("lambda")

    def wake() -> None:
        try:
            with translated_aws(f"waking {function}"):
                client.invoke(FunctionName=function, InvocationType="Event", Payload=b'{"action": "poll"}')
        except AdapterError as error:
            _LOG.warning("%s Its schedule wakes it.", error.message)

    return wake


def _replicator(settings: Settings, sessions: Sessions) -> NativeReplicator:
    rules, policy = settings.replication, settings.policy()
    if rules.engine == "native":
        return NativeReplicator(
            settings.name, sessions, rules.include, rules.exclude, rules.jobs, rules.client_bin, policy
        )
    if settings.aws is None:
        raise ConfigError('replication.engine is "dms", but the section [aws] is missing.', "Add the section.")
    session, names = open_session(settings.aws.region), Names(settings.name, settings.aws.environment)
    task = DmsTask(
        session.client("dms"),
        session.client("cloudwatch"),
        identifier=names.of("task"),
        resource=names.short("task", TASK_RESOURCE_LIMIT),
        instance=names.of("dms"),
    )
    return DmsReplicator(
        settings.name,
        sessions,
        rules.include,
        rules.exclude,
        rules.jobs,
        rules.client_bin,
        policy,
        task=task,
        role=settings.aws.dms.user,
    )


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


def _router(settings: Settings, sessions: Sessions) -> Router:
    servers = {side: sessions.server(side) for side in Side}
    traffic = settings.traffic
    if traffic.router == "pgbouncer" and traffic.pgbouncer is not None:
        return PgBouncerRouter(traffic.pgbouncer, servers, partial(_still_ours, settings.name, sessions))
    if traffic.router == "route53" and settings.aws is not None:
        client = open_session(settings.aws.region).client("route53")
        return Route53Router(client, settings.aws.routing, partial(_still_ours, settings.name, sessions))

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
