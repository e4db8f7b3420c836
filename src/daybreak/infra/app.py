"""From the configuration to a directory that Terraform can run in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from daybreak.config import InfraSettings
from daybreak.infra.package import build_package
from daybreak.infra.published import published
from daybreak.infra.terraform import MINIMUM

_PACKAGE = "package.zip"


def synthesise(settings: InfraSettings, directory: Path) -> Path:
    """Write the stack of ``settings`` below ``directory`` and return the directory that Terraform runs in.

    ``directory`` is made for its owner only: Terraform keeps plan and (without a bucket) state in it. What
    an earlier synthesis left is replaced; Terraform's own files stay. Raises ConfigError where a name is too
    long or a dependency of the controller's package is missing."""
    # Importing the CDK takes seconds. It reads this when it is imported.
    os.environ.setdefault("CHECKPOINT_DISABLE", "1")
    from cdktn import App

    from daybreak.infra.stack import STACK, DaybreakStack

    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    authorities = published(settings).authorities
    package = build_package(settings.aws.controller, directory / _PACKAGE, authorities)
    synthesised = directory / "stacks" / STACK
    shutil.rmtree(synthesised / "assets", ignore_errors=True)
    # Unless told, the CDK refuses what the oldest Terraform that it knows lacks, as the lock file in S3.
    oldest = ".".join(map(str, MINIMUM))
    app = App(outdir=str(directory), context={"targetVersions": {"terraform": f">={oldest}"}})
    DaybreakStack(app, settings, package.path)
    app.synth()
    return synthesised
