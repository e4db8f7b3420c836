"""``daybreak infra``: the AWS side planned, made, looked at and destroyed by Terraform.

Provisioning is apart from migrating: nothing here moves traffic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daybreak.config import load_infra_settings
from daybreak.config.names import Names
from daybreak.entry import render_infra
from daybreak.entry.command import command
from daybreak.entry.infra_guard import refuse_deploy, refuse_destroy, refuse_half_way
from daybreak.entry.infra_reports import DeployReport, DestroyReport, InfraPlanReport, OutputsReport, SynthReport
from daybreak.entry.infra_site import Site
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json, Yes
from daybreak.errors import ConfigError, StateConflict

if TYPE_CHECKING:
    from daybreak.infra.plan import Change, Plan
    from daybreak.infra.terraform import Terraform

_GOES_ON = "What was made is in Terraform's state: run `daybreak infra {verb}` again to go on."
_EVEN = "--even-while-active"
Even = Annotated[str, typer.Option(_EVEN, metavar="NAME", help="Go on although the migration NAME is in the middle.")]
Replace = Annotated[bool, typer.Option("--replace", help="Write over keys of [target] that say otherwise.")]

infra = typer.Typer(
    help="Provision the AWS side with Terraform: cluster, network, DNS, controller, alarms.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@contextmanager
def _command(verb: str, config: Path, as_json: bool, resume: str = "") -> Iterator[Site]:
    with command(f"infra {verb}", config, as_json, resume) as run:
        if find_spec("cdktn") is None:
            raise ConfigError("The infrastructure's part is not installed.", "Run `pip install 'daybreak[infra]'`.")
        yield Site(run, load_infra_settings(config))


@infra.command()
def synth(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Write the stack as Terraform JSON and say where; talks to nobody."""
    with _command("synth", config, as_json) as site:
        from daybreak.infra.checks import node

        site.check(node)
        directory = site.synthesise()
        site.run.show(SynthReport(str(directory)), f"The stack is in {directory}.")


@infra.command()
def plan(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Say what `deploy` would make, change, replace and destroy; changes nothing."""
    with _command("plan", config, as_json) as site:
        _terraform, found = _planned(site)
        site.run.show(InfraPlanReport.of(found), render_infra.plan(found))


@infra.command()
def deploy(
    config: Config = DEFAULT_CONFIG, as_json: Json = False, yes: Yes = False, even_while_active: Even = ""
) -> None:
    """Show Terraform's plan, ask, and apply that very plan. Moves no traffic and starts no migration. Refuses to lose
    or stop what an active migration needs."""
    with _command("deploy", config, as_json, _GOES_ON.format(verb="deploy")) as site:
        guarded = _guarded(site, even_while_active)
        terraform, found = _planned(site)
        site.run.err.print(render_infra.plan(found))
        if guarded:
            refuse_deploy(site, found)
        refuse_half_way(site, terraform, found)
        if not found.empty:
            _confirm(site, found, "do that on AWS", yes)
            site.apply(terraform, found)
        outputs = terraform.outputs()
        done = f"Done; `daybreak infra outputs` completes {config}."
        site.run.show(DeployReport(InfraPlanReport.of(found), outputs), done, render_infra.outputs(outputs))


@infra.command()
def destroy(
    config: Config = DEFAULT_CONFIG, as_json: Json = False, yes: Yes = False, even_while_active: Even = ""
) -> None:
    """Destroy what `deploy` made, data included; snapshots and backups stay with their key. Refuses while in use."""
    with _command("destroy", config, as_json, _GOES_ON.format(verb="destroy")) as site:
        from daybreak.infra.checks import on_this_machine
        from daybreak.infra.passwords import variables

        site.check(on_this_machine)
        guarded = _guarded(site, even_while_active)
        synthesised = site.synthesise()
        # Terraform insists on values; destroying uses none.
        terraform = site.terraform(dict.fromkeys(variables(synthesised), "unused"), synthesised)
        found = site.plan(terraform, destroy=True)
        kept = _kept(site, found)
        rest = found.without(kept.address) if kept else found
        site.run.err.print(render_infra.plan(rest))
        if guarded and rest.changes:
            refuse_destroy(site, rest)
        refuse_half_way(site, terraform, rest)
        told = _left(site, kept)
        if rest.changes:
            _confirm(site, rest, "destroy all of that, data included", yes)
        if kept:
            site.run.err.print(told)
            rest = _leave(site, terraform, kept, rest)
        if rest.changes:
            site.apply(terraform, rest)
        count = len(rest.changes)
        site.run.show(DestroyReport(count, (kept.id,) if kept else ()), f"{count} resources destroyed. {told}")


@infra.command()
def outputs(config: Config = DEFAULT_CONFIG, as_json: Json = False, replace: Replace = False) -> None:
    """Complete [target] in the configuration with what was deployed, and print the rest."""
    with _command("outputs", config, as_json) as site:
        from daybreak.infra.checks import on_this_machine
        from daybreak.infra.completion import complete

        site.check(on_this_machine)
        found = site.terraform({}, site.synthesise()).outputs()
        written = complete(config, found, replace)
        told = f"Wrote {', '.join(written)}." if written else f"{config} has it all."
        site.run.show(OutputsReport(str(config), written, found), told, render_infra.outputs(found))


def _planned(site: Site) -> tuple[Terraform, Plan]:
    """Terraform with the passwords of the stack's secrets, and its plan, after every check that can be made before."""
    from daybreak.infra.checks import in_the_account, on_this_machine
    from daybreak.infra.passwords import passwords, unwritten, variables

    session = site.session()
    site.check(on_this_machine, lambda: in_the_account(site.settings, session))
    synthesised = site.synthesise()
    given = passwords(variables(synthesised), site.settings, session)
    terraform = site.terraform(given, synthesised)
    found = site.plan(terraform)
    site.check(lambda: unwritten(given, site.settings, session, found))
    return terraform, found


def _confirm(site: Site, plan: Plan, what: str, yes: bool) -> None:
    loud = (
        (plan.losses, "GONE FOR GOOD"),
        (plan.interrupted, "WRITES FAIL MEANWHILE"),
        (plan.stopped, "STOPPED until `daybreak start`"),
    )
    for found, words in loud:
        if found:
            what += f"; {words}: {', '.join(one.address for one in found)}"
    site.run.confirm(what, yes, site.name)


def _guarded(site: Site, even: str) -> bool:
    """Whether what is needed has to stay: unless the operator names the migration."""
    if even and even != site.name:
        raise ConfigError(f"{_EVEN} names {even}, but {site.run.config} is about {site.name}.", "Name that.")
    return not even


def _left(site: Site, kept: Change | None) -> str:
    """What is said to be left: of an earlier run that ended before its end, Terraform knows no key any more."""
    aws = site.settings.aws
    if kept:
        return render_infra.kept(kept, aws.region)
    if aws.protected or aws.aurora.final_snapshot:
        return render_infra.perhaps_kept(Names(site.name, aws.environment).tags(), aws.region)
    return "Nothing is left."


def _kept(site: Site, plan: Plan) -> Change | None:
    """The key that snapshots and backups are encrypted with, where there are any after the stack: a key that
    Terraform destroys is gone with all of them. A protected environment's vault may have been left, too."""
    return plan.data_key if plan.snapshots or site.settings.aws.protected else None


def _leave(site: Site, terraform: Terraform, kept: Change, rest: Plan) -> Plan:
    """Have Terraform forget ``kept``; returns a plan of the ``rest`` that can be applied then."""
    site.forget(terraform, kept.address)
    again = site.plan(terraform, destroy=True)
    if again.changes != rest.changes:
        raise StateConflict(
            "Something in AWS has changed since the plan was shown. Nothing was destroyed, but Terraform no longer "
            f"knows the key {kept.id}.",
            "Run `daybreak infra destroy` again and look at its plan. To keep the stack instead, give the key back "
            f"first: `terraform -chdir={terraform.directory} import {kept.address} {kept.id}` (any word where it asks "
            "for a password: importing uses none).",
        )
    return again
