"""A migration's configuration deployed to emulated AWS by the command itself, as an operator does it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from boto3.session import Session

from daybreak.lab.aws import EmulatedAws
from daybreak.lab.cloud import Mirror
from daybreak.lab.overlay import OVERRIDE_FILE, STACK_FILE, write_override

REGION = "eu-central-1"
SOURCE_PASSWORD = "tell-nobody-of-the-source"


@dataclass
class Deployment:
    """``daybreak infra`` with a configuration of its own. ``aws`` looks at the emulated account."""

    directory: Path
    emulated: EmulatedAws
    engine: str
    aws: Session
    bucket: str = ""
    mirror: Mirror | None = field(default_factory=Mirror.find)

    def __post_init__(self) -> None:
        authority = self.directory / "authority.pem"
        trustme.CA().cert_pem.write_to_path(authority)
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        machine = {"aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
        self.config.write_text(f"""\
name = "payments"  # not the invoices
[source]
dsn = "postgresql://daybreak@old.example.net/payments"
password = "env:SOURCE_PASSWORD"
[replication]
engine = "{self.engine}"
[aws]
environment = "test"
region = "{REGION}"
network.vpc_cidr = "10.60.0.0/16"
network.source_cidrs = ["10.1.0.0/24"]
aurora.engine_version = "17.5"
routing.zone_name = "payments.internal"
dms.target_ca_file = "{authority}"
controller.runtime = "python{here}"
controller.architecture = "{machine}"
terraform.bucket = "{self.bucket}"
""")
        if self.bucket:
            self.aws.client("s3").create_bucket(
                Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
            )
        # The stack is the product's; only what emulators need is laid over it.
        self.json("synth")
        write_override(self.stack, self.mirror.version if self.mirror else "")
        self._rarely_woken()

    def _rarely_woken(self) -> None:
        """The function really runs, and turns off a schedule that finds no migration: not before the test is over."""
        rules = json.loads((self.stack / STACK_FILE).read_text())["resource"]["aws_cloudwatch_event_rule"]
        (schedule,) = (name for name, rule in rules.items() if "schedule_expression" in rule)
        override = json.loads((self.stack / OVERRIDE_FILE).read_text())
        emulated = override.setdefault("resource", {}).setdefault("aws_cloudwatch_event_rule", {})
        emulated[schedule] = {"schedule_expression": "rate(1 day)"}
        (self.stack / OVERRIDE_FILE).write_text(json.dumps(override))

    @property
    def config(self) -> Path:
        return self.directory / "daybreak.toml"

    @property
    def stack(self) -> Path:
        return self.directory / ".daybreak" / "infra" / "stacks" / "daybreak"

    @property
    def resources(self) -> list[object]:
        """What Terraform's state knows of."""
        found: list[object] = json.loads(self._state())["resources"]
        return found

    def _state(self) -> bytes:
        if self.bucket:
            key = "daybreak/payments/test.tfstate"
            return bytes(self.aws.client("s3").get_object(Bucket=self.bucket, Key=key)["Body"].read())
        return (self.stack.parent.parent / "terraform.tfstate").read_bytes()

    def environment(self) -> dict[str, str]:
        plugins = {"TF_CLI_ARGS_init": f"-plugin-dir={self.mirror.directory}"} if self.mirror else {}
        own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DAYBREAK_"))}
        return {**own, **self.emulated.environment(), **plugins, "SOURCE_PASSWORD": SOURCE_PASSWORD}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``daybreak infra ...``"""
        return subprocess.run(
            self._command(*arguments), env=self.environment(), cwd=self.directory, capture_output=True, text=True
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """The object that ``daybreak infra ... --json`` prints."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def interrupted(self, pattern: str, *arguments: str) -> tuple[int, str]:
        """Ctrl-C once a line of the progress has ``pattern``; exit code and everything told."""
        pressed, told = False, []
        with subprocess.Popen(
            self._command(*arguments), env=self.environment(), cwd=self.directory, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0,
        ) as process:  # fmt: skip
            assert process.stderr is not None
            for line in process.stderr:
                told.append(line)
                if not pressed and re.search(pattern, line):
                    # As a terminal does it: the whole foreground group.
                    os.killpg(process.pid, signal.SIGINT)
                    pressed = True
        return process.returncode, "".join(told)

    def planned(self) -> list[str]:
        """What a plan would change."""
        return [f"{one['action']} {one['address']}" for one in self.json("plan")["changes"]]

    def passwords(self) -> list[str]:
        """The passwords in the stack's secrets."""
        manager = self.aws.client("secretsmanager")
        arns = [value for name, value in self.json("outputs")["outputs"].items() if name.endswith("_secret_arn")]
        values = [manager.get_secret_value(SecretId=arn)["SecretString"] for arn in arns if "!" not in arn]
        return [json.loads(value)["password"] for value in values]

    def written(self) -> bytes:
        """Every byte that Terraform left: state, its backup, the plan."""
        files = [*self.stack.parent.parent.glob("*.tfstate*"), *self.stack.glob("*.tfplan")]
        plans = [zipfile.ZipFile(one) for one in files if zipfile.is_zipfile(one)]
        members = [plan.read(name) for plan in plans for name in plan.namelist()]
        return b"".join([self._state(), *(one.read_bytes() for one in files), *members])

    def left(self) -> list[str]:
        """What of ours is still in the account. Keys are only ever scheduled for deletion."""
        seen = [
            self.aws.client("rds").describe_db_clusters()["DBClusters"],
            self.aws.client("dms").describe_replication_instances()["ReplicationInstances"],
            self.aws.client("route53").list_hosted_zones()["HostedZones"],
            self.aws.client("lambda").list_functions()["Functions"],
            self.aws.client("iam").list_roles()["Roles"],
            self.aws.client("secretsmanager").list_secrets()["SecretList"],
            self.aws.client("dynamodb").list_tables()["TableNames"],
            self.aws.client("sns").list_topics()["Topics"],
            self.aws.client("sqs").list_queues().get("QueueUrls", []),
            self.aws.client("events").list_rules()["Rules"],
            self.aws.client("cloudwatch").describe_alarms()["MetricAlarms"],
            self.aws.client("cloudwatch").list_dashboards()["DashboardEntries"],
            self.aws.client("logs").describe_log_groups()["logGroups"],
            self.aws.client("ssm").describe_parameters()["Parameters"],
            self.aws.client("backup").list_backup_vaults()["BackupVaultList"],
            self.aws.client("kms").list_aliases()["Aliases"],
            self.aws.client("ec2").describe_security_groups()["SecurityGroups"],
            self.aws.client("ec2").describe_vpc_endpoints()["VpcEndpoints"],
        ]
        texts = [str(one) for found in seen for one in found if "'State': 'deleted'" not in str(one)]
        return [text for text in texts if "daybreak" in text or "payments" in text]

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", "from daybreak.entry.cli import main; main()", "infra", *arguments]
