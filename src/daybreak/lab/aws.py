"""AWS on this machine: moto where it is the better emulator, ministack for everything else.

Both listen on loopback only and end with this process. Neither moves a row of a database; what can be
tried on them is that a stack applies, stays as it is and goes away again, and what the AWS API is asked.
They come with the development group ``aws``."""

from __future__ import annotations

import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError

from daybreak.errors import ConfigError, PermanentError
from daybreak.lab.cluster import HOST, free_port
from daybreak.postgres.processes import Child, started

# Both emulators take an access key of twelve digits for the account itself, and so agree on it.
ACCOUNT = "123456789012"
# ministack has no DMS and no networks worth the name, can't delete hosted zones, and its alarms never read
# back as they were written. Spelled as boto3 and Terraform's provider spell them in AWS_ENDPOINT_URL_*.
_OF_MOTO = ("EC2", "RDS", "DATABASE_MIGRATION_SERVICE", "ROUTE_53", "CLOUDWATCH")
_START_SECONDS = 60.0
_ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class EmulatedAws:
    """Where the two emulators answer."""

    moto: str
    ministack: str

    def environment(self) -> dict[str, str]:
        """What makes boto3, the AWS CLI and Terraform's AWS provider use the emulators, and nothing else.

        Where AWS_PROFILE is set it must be removed: the configuration it is looked up in is shut out."""
        return {
            "AWS_ENDPOINT_URL": self.ministack,
            **{f"AWS_ENDPOINT_URL_{service}": self.moto for service in _OF_MOTO},
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": "emulated",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            # A proxy of this machine's could not reach its loopback.
            "NO_PROXY": HOST,
            "no_proxy": HOST,
        }


@contextmanager
def emulated_aws() -> Iterator[EmulatedAws]:
    """Both emulators, empty, while the block runs.

    Raises ConfigError where they are not installed, PermanentError with its output where one doesn't start."""
    for package in ("moto", "ministack"):
        if find_spec(package) is None:
            raise ConfigError(f"{package} is not installed.", "In a checkout: `uv sync --extra lab --group aws`.")
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="daybreak-aws-"))
        moto, ministack = free_port(), free_port()
        children = [
            (stack.enter_context(started(_moto_arguments(moto), _MOTO)), f"http://{HOST}:{moto}/moto-api/"),
            (
                stack.enter_context(started(_MINISTACK_ARGUMENTS, _ministack_environment(ministack, Path(scratch)))),
                f"http://{HOST}:{ministack}/_ministack/ready",
            ),
        ]
        deadline = time.monotonic() + _START_SECONDS
        for child, url in children:
            _wait_for(child, url, deadline)
        yield EmulatedAws(f"http://{HOST}:{moto}", f"http://{HOST}:{ministack}")


_MOTO = {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
_MINISTACK_ARGUMENTS = [sys.executable, "-m", "ministack"]


def _moto_arguments(port: int) -> list[str]:
    return [sys.executable, "-m", "daybreak.lab.moto_shim", str(port)]


def _ministack_environment(port: int, scratch: Path) -> dict[str, str]:
    """Its defaults are every interface, fixed ports, /tmp and the machine's Docker."""
    return {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": HOST,
        "MINISTACK_HOST": HOST,
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "LAMBDA_EXECUTOR": "local",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "USE_SSL": "0",
        "PERSIST_STATE": "0",
        "LOG_LEVEL": "WARNING",
        "TMPDIR": str(scratch),
        "S3_DATA_DIR": str(scratch / "s3"),
        "STATE_DIR": str(scratch / "state"),
        "DOCKER_HOST": f"unix://{scratch / 'no-docker'}",
    }


def _wait_for(child: Child, url: str, deadline: float) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(url, timeout=_ANSWER_SECONDS):
                return
        except (URLError, OSError) as error:
            if child.finished(0.1) or time.monotonic() > deadline:
                said = child.complaint() or child.output().decode(errors="replace")
                raise PermanentError(
                    f"{url} does not answer ({error}); the emulator said:\n{said}", "See the lines above."
                ) from error
