"""``daybreak infra``: the AWS side planned, made, looked at and destroyed by Terraform.

Provisioning is apart from migrating: nothing here moves traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daybreak.aws.session import open_session
from daybreak.config import InfraSettings, load_infra_settings, state_file
from daybreak.config.names import Names
from daybreak.entry import render, render_infra
from daybreak.entry.command import Command, command
from daybreak.entry.infra_reports import DeployReport, DestroyReport, InfraPlanReport, OutputsReport, SynthReport
from daybreak.entry.options import DEFAULT_CONFIG, Config, Json, Yes
from daybreak.entry.terraform_progress import following
from daybreak.errors import ConfigError, Finding, PreflightFailed, Refused
from daybreak.store.sqlite import SqliteStateStore

if TYPE_CHECKING:
    from boto3.session import Session

    from daybreak.infra.guard import Standing
    from daybreak.infra.plan import Plan
    from daybreak.infra.terraform import Terraform

_GOES_ON = "What was made is in Terraform's state: run `daybreak infra {verb}` again to go on."
_EVEN = "--even-while-active"
_UNPROTECT = {
    "aws_rds_cluster": "rds modify-db-cluster --db-cluster-identifier {id} --no-deletion-protection",
    "aws_dynamodb_table": "dynamodb update-table --table-name {id} --no-deletion-protection-enabled",
}
Even = Annotated[str, typer.Option(_EVEN, metavar="NAME", help="Destroy although the migration NAME is in the middle.")]
Replace = Annotated[bool, typer.Option("--replace", help="Write over keys of [target] that say otherwise.")]

infra = typer.Typer(
    help="Provision the AWS side with Terraform: cluster, network, DNS, controller, alarms.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@dataclass(frozen=True)
class _Site:
    """What every command works with; the stack is synthesised when it is first needed."""

    run: Command
    settings: InfraSettings

    @property
    def directory(self) -> Path:
        """Where everything is written."""
        return self.run.config.resolve().parent / self.settings.aws.terraform.directory

    @property
    def name(self) -> str:
        """What people type to confirm."""
        return self.settings.name

    def session(self) -> Session:
        """AWS, as boto3 finds its credentials."""
        return open_session(self.settings.aws.region)

    def synthesise(self) -> Path:
        """Write the stack; returns Terraform's directory."""
        from daybreak.infra.app import synthesise

        with self.run.err.status("Synthesising the stack ..."):
            return synthesise(self.settings, self.directory)

    def terraform(self, variables: dict[str, str], synthesised: Path) -> Terraform:
        """Terraform, initialised."""
        from daybreak.infra.terraform import Terraform

        made = Terraform(synthesised, variables)
        with following(self.run.err, made, "Preparing Terraform ..."):
            made.init()
        return made

    def plan(self, terraform: Terraform, destroy: bool = False) -> Plan:
        """Terraform's plan."""
        with following(self.run.err, terraform, "Comparing with AWS ..."):
            return terraform.plan(destroy)

    def apply(self, terraform: Terraform, plan: Plan) -> None:
        """Do what ``plan`` says."""
        with following(self.run.err, terraform, "Applying ..."):
            terraform.apply(plan)

    def check(self, *looks: Callable[[], tuple[Finding, ...]]) -> None:
        """Print what is found, and raise PreflightFailed where something blocks."""
        for look in looks:
            found = look()
            blockers = tuple(one for one in found if one.severity == "blocker")
            if blockers:
                raise PreflightFailed(blockers)
            if found:
                self.run.err.print(render.findings(found))


@contextmanager
def _command(verb: str, config: Path, as_json: bool, resume: str = "") -> Iterator[_Site]:
    with command(f"infra {verb}", config, as_json, resume) as run:
        if find_spec("cdktn") is None:
            raise ConfigError("The infrastructure's part is not installed.", "Run `pip install 'daybreak[infra]'`.")
        yield _Site(run, load_infra_settings(config))


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
        found = site.plan(_ready(site))
        site.run.show(InfraPlanReport.of(found), render_infra.plan(found))


@infra.command()
def deploy(config: Config = DEFAULT_CONFIG, as_json: Json = False, yes: Yes = False) -> None:
    """Show Terraform's plan, ask, and apply that very plan. Moves no traffic and starts no migration."""
    with _command("deploy", config, as_json, _GOES_ON.format(verb="deploy")) as site:
        terraform = _ready(site)
        found = site.plan(terraform)
        site.run.err.print(render_infra.plan(found))
        _refuse_protected(site, terraform, found)
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
    """Destroy everything that `deploy` made, data included. Refuses while it is in use."""
    with _command("destroy", config, as_json, _GOES_ON.format(verb="destroy")) as site:
        from daybreak.infra.checks import on_this_machine
        from daybreak.infra.passwords import variables

        site.check(on_this_machine)
        _refuse_in_use(site, even_while_active)
        synthesised = site.synthesise()
        # Terraform insists on values; destroying uses none.
        terraform = site.terraform(dict.fromkeys(variables(synthesised), "unused"), synthesised)
        found = site.plan(terraform, destroy=True)
        site.run.err.print(render_infra.plan(found))
        _refuse_protected(site, terraform, found)
        if found.changes:
            _confirm(site, found, "destroy all of that, data included", yes)
            site.apply(terraform, found)
        count = len(found.changes)
        site.run.show(DestroyReport(count), f"{count} resources destroyed; nothing is left.")


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


def _ready(site: _Site) -> Terraform:
    """Terraform with the passwords of the stack's secrets, after every check that can be made before it."""
    from daybreak.infra.checks import in_the_account, on_this_machine
    from daybreak.infra.passwords import passwords, variables

    session = site.session()
    site.check(on_this_machine, lambda: in_the_account(site.settings, session))
    synthesised = site.synthesise()
    return site.terraform(passwords(variables(synthesised), site.settings, session), synthesised)


def _confirm(site: _Site, plan: Plan, what: str, yes: bool) -> None:
    lost = ", ".join(one.address for one in plan.losses)
    site.run.confirm(f"{what}" + (f"; GONE FOR GOOD: {lost}" if lost else ""), yes, site.name)


def _refuse_protected(site: _Site, terraform: Terraform, plan: Plan) -> None:
    """Terraform would fail half-way, with the rest already destroyed."""
    if not plan.protected:
        return
    keep = [f"terraform -chdir={terraform.directory} untaint {one.address}" for one in plan.protected if one.half_made]
    region = site.settings.aws.region
    drop = [f"aws {_UNPROTECT[one.kind].format(id=one.id)} --region {region}" for one in plan.protected]
    hints = [
        f"{what}: {', '.join(f'`{one}`' for one in commands)}."
        for what, commands in (("If it has come up well meanwhile, keep it", keep), ("If it shall go", drop))
        if commands
    ]
    raise Refused(
        f"Protected against deletion: {', '.join(one.address for one in plan.protected)}. Nothing was done.",
        " ".join([*hints, "Then this command again."]),
    )


def _refuse_in_use(site: _Site, even: str) -> None:
    from daybreak.infra.guard import published, refuse_while_needed

    if even == site.name:
        return
    if even:
        raise ConfigError(f"{_EVEN} names {even}, but {site.run.config} is about {site.name}.", "Name that.")
    names = Names(site.settings.name, site.settings.aws.environment)
    witnesses = (published(names.path("state"), site.session()), _recorded(site))
    refuse_while_needed([one for one in witnesses if one], site.name)


def _recorded(site: _Site) -> Standing | None:
    """What the record beside the configuration says; None where there is none."""
    from daybreak.infra.guard import Standing

    url = site.settings.state.url
    if url and not url.startswith("sqlite:///"):
        return None
    path = Path(url.removeprefix("sqlite:///")) if url else state_file(site.name, site.run.config)
    record = SqliteStateStore(path).load(site.name)
    return None if record is None else Standing(str(path), record.phase, record.primary)
