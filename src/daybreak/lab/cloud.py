"""A migration's AWS side on this machine: the product's own stack, deployed to emulated AWS by the product's own
command, with secrets that lead to the lab's servers and a name server that answers from its Route 53.

Only what emulators need is laid over it: the override file of Terraform, and the function's way to the
emulators. ``os.environ`` leads to them while it is there, as an operator's shell would."""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boto3.session import Session
from psycopg import conninfo, sql

from daybreak.config.names import FUNCTION, FUNCTION_LIMIT, TASK_RESOURCE_LIMIT, Names
from daybreak.errors import ConfigError, PermanentError
from daybreak.lab.aws import EmulatedAws, emulated_aws
from daybreak.lab.dms_task import DmsStandIn, to_cloudwatch
from daybreak.lab.dns import Host, NameServer
from daybreak.lab.overlay import EMULATED_DMS, write_override
from daybreak.lab.pair import MIGRATION, OWNER, Pair
from daybreak.lab.witness import Witness
from daybreak.model import Side
from daybreak.postgres.grants import grant_script
from daybreak.postgres.processes import started

if TYPE_CHECKING:
    from daybreak.lab.configuration import Section

REGION, ENVIRONMENT, ZONE = "eu-central-1", "test", "payments.internal"
# Where mirrors of providers are: in Terraform's own places (`terraform init`, implied local mirrors), and
# wherever a machine without access to the registry has one.
_MIRRORS = (
    "~/.terraform.d/plugins",
    "~/.local/share/terraform/plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    "/opt/*",
)
_INIT_ARGUMENTS = "TF_CLI_ARGS_init"
_PROVIDER = "registry.terraform.io/hashicorp/aws"
_TTL_SECONDS = 6
_END_SECONDS = 30.0
DMS = "daybreak_dms"


@dataclass(frozen=True, slots=True)
class Mirror:
    """A directory with a version of the AWS provider in it."""

    directory: Path
    version: str

    @classmethod
    def find(cls) -> Mirror | None:
        """The one that the environment names, or else the first in the usual places; None: the registry is asked."""
        named = re.search(r"-plugin-dir=(\S+)", os.environ.get(_INIT_ARGUMENTS, ""))
        places = [Path(named[1])] if named else [Path(one).expanduser() for one in _MIRRORS]
        for place in (found for one in places for found in sorted(one.parent.glob(one.name))):
            versions = sorted(one.name for one in (place / _PROVIDER).glob("*.*.*") if one.is_dir())
            if versions:
                return cls(place, versions[-1])
        return None


def sections(pair: Pair, name: str, engine: str) -> dict[str, Section]:
    """What a lab's daybreak.toml says beside its servers for a controller on AWS. ``pair`` speaks TLS."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    machine = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    table = Names(name, ENVIRONMENT).of("state", limit=255)
    return {
        "replication": {"engine": engine},
        "traffic": {"router": "route53"},
        "state": {"url": f"dynamodb://{table}"},
        "aws": {"environment": ENVIRONMENT, "region": REGION},
        "aws.network": {"vpc_cidr": "10.60.0.0/16"},
        "aws.aurora": {"engine_version": "17.5"},
        "aws.dms": {"source_ca_file": str(pair.source.ca_file), "target_ca_file": str(pair.target.ca_file)},
        "aws.routing": {"zone_name": ZONE, "ttl_seconds": _TTL_SECONDS},
        "aws.controller": {"runtime": f"python{here}", "architecture": machine},
    }


class Cloud:
    """The deployed AWS side of the migration ``name`` whose configuration is ``config``."""

    def __init__(self, config: Path, name: str, pair: Pair, emulated: EmulatedAws) -> None:
        self._config = config
        self._pair = pair
        self._emulated = emulated
        self._mirror = Mirror.find()
        self._names = Names(name, ENVIRONMENT)
        self._name = name
        self.session = Session(region_name=REGION)

    def deploy(self) -> None:
        """Synthesise and apply the stack, then lead its secrets and its function to this machine.

        Raises ConfigError without Terraform, PermanentError with the command's words where it fails."""
        require_terraform()
        synthesised = Path(self._infra("synth")["directory"])
        write_override(synthesised, self._mirror.version if self._mirror else "")
        outputs = self._infra("deploy", "--yes")["outputs"]
        for side in Side:
            self._write_secret(side, str(outputs[f"{side}_secret_arn"]))
        self._lead_function()

    @property
    def witness(self) -> Witness:
        """Who watches the function."""
        return Witness(self.session, self._names)

    def destroy(self) -> None:
        """Destroy the stack, whatever it is used for."""
        self._infra("destroy", "--yes", "--even-while-active", self._name)

    @contextmanager
    def name_server(self) -> Iterator[tuple[NameServer, Mapping[str, Host]]]:
        """Answers from the stack's zone, and who listens at the end of each chain of names."""
        hosts = {side: Host(side, "127.0.0.1", self._pair.cluster(side).port) for side in Side}
        (cluster,) = self.session.client("rds").describe_db_clusters()["DBClusters"]
        ends = {
            f"db-source.{ZONE}": hosts[Side.SOURCE],
            cluster["Endpoint"]: hosts[Side.TARGET],
            cluster["ReaderEndpoint"]: hosts[Side.TARGET],
        }
        with NameServer(self.session.client("route53"), ZONE, ends) as server:
            yield server, ends

    @contextmanager
    def stand_in(self) -> Iterator[DmsStandIn]:
        """What carries out the DMS task of the stack, between the lab's servers; its role is made on both.

        Its events reach the stack's rules as ``lab.overlay`` has it, its latency CloudWatch."""
        password = secrets.token_urlsafe(12)
        for side in Side:
            with self._pair.connect(side) as here:
                version, database = here.info.server_version, self._pair.database
                here.execute(grant_script("postgres", side, MIGRATION, database, (OWNER,), version, DMS).encode())
                here.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(DMS), password))
        source, target = (
            conninfo.make_conninfo("", **self._pair.cluster(side).parameters(DMS, password, self._pair.database))
            for side in Side
        )
        names = self._names
        latency = to_cloudwatch(
            self.session.client("cloudwatch"), names.of("dms"), names.short("task", TASK_RESOURCE_LIMIT)
        )
        client = self.session.client("dms")
        with DmsStandIn(client, names.of("task"), source, target, latency, self._send) as running:
            yield running

    def _send(self, event: dict[str, Any]) -> None:
        entry: Any = {
            "Source": EMULATED_DMS,
            "DetailType": event["detail-type"],
            "Resources": event["resources"],
            "Detail": json.dumps(event["detail"]),
        }
        self.session.client("events").put_events(Entries=[entry])

    def _write_secret(self, side: Side, arn: str) -> None:
        """As the stack wrote it, but for where the lab's server is and what its role's password is."""
        manager = self.session.client("secretsmanager")
        secret = json.loads(manager.get_secret_value(SecretId=arn)["SecretString"])
        port = self._pair.cluster(side).port
        secret |= {"host": "127.0.0.1", "port": port, "password": self._pair.migration_password}
        secret |= {"dbname": self._pair.database}
        manager.put_secret_value(SecretId=arn, SecretString=json.dumps(secret))

    def _lead_function(self) -> None:
        function = self._names.of(FUNCTION, FUNCTION_LIMIT)
        client = self.session.client("lambda")
        variables = client.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        variables = {**variables, **self._emulated.environment(), "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
        client.update_function_configuration(FunctionName=function, Environment={"Variables": variables})

    def _infra(self, *arguments: str) -> dict[str, Any]:
        """``daybreak infra ... --json``, and its object."""
        plugins = {_INIT_ARGUMENTS: f"-plugin-dir={self._mirror.directory}"} if self._mirror else {}
        # Beside the configuration, which goes with the rehearsal: Terraform and its provider leave files behind
        # where they are ended by force.
        scratch = self._config.parent / "tmp"
        scratch.mkdir(exist_ok=True)
        command = [sys.executable, "-c", "from daybreak.entry.cli import main; main()", "infra", *arguments]
        environment = {**plugins, "TMPDIR": str(scratch)}
        with started([*command, "--json", "--config", str(self._config)], environment) as child:
            try:
                while not child.finished(0.2):
                    pass
            except BaseException:
                if not child.finished(0):
                    os.kill(child.pid, signal.SIGTERM)
                    child.finished(_END_SECONDS)  # it ends Terraform first, which ends its provider
                raise
            text, said = child.output().decode(), child.complaint()
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError:
            found = {"error": {"message": said or text, "hint": ""}}
        if "error" in found:
            raise PermanentError(f"daybreak infra {arguments[0]}: {found['error']['message']}", found["error"]["hint"])
        return found


def require_terraform() -> None:
    """Raise ConfigError where Terraform is not installed."""
    if shutil.which("terraform") is None:
        raise ConfigError(
            "terraform is not installed (not found in PATH).",
            "Install Terraform 1.11 or newer: https://developer.hashicorp.com/terraform/install",
        )


@contextmanager
def emulated_account() -> Iterator[EmulatedAws]:
    """Emulated AWS to which this process's environment leads while the block runs.

    Raises as ``emulated_aws``."""
    with ExitStack() as stack:
        emulated = stack.enter_context(emulated_aws())
        before = dict(os.environ)
        stack.callback(_restore, before)
        os.environ.pop("AWS_PROFILE", None)
        os.environ.update(emulated.environment())
        yield emulated


def _restore(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
