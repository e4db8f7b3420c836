"""How long ``daybreak infra synth`` takes, with either engine, as a person runs it: a process of its own each time.

    python benchmarks/infra_synth.py [--runs 5] [--json]

Needs the extra ``infra``, and neither Terraform nor an account. Prints the shortest, median and longest run in
seconds; 15 are allowed. Measure on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_ENGINES = ("native", "dms")


@dataclass(frozen=True)
class Measured:
    """All runs with one engine, seconds."""

    engine: str
    runs: int
    min_seconds: float
    median_seconds: float
    max_seconds: float


def configured(directory: Path, engine: str) -> None:
    """Write a daybreak.toml with ``engine`` into ``directory``."""
    authority = directory / "authority.pem"
    authority.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    (directory / "daybreak.toml").write_text(f"""\
name = "payments"
[source]
dsn = "postgresql://daybreak@old.example.net/payments"
[replication]
engine = "{engine}"
[aws]
environment = "prod"
region = "eu-central-1"
network.vpc_cidr = "10.60.0.0/16"
aurora.engine_version = "17.5"
routing.zone_name = "payments.internal"
dms.target_ca_file = "{authority}"
controller.runtime = "python{sys.version_info.major}.{sys.version_info.minor}"
controller.architecture = "{"arm64" if os.uname().machine in ("aarch64", "arm64") else "x86_64"}"
""")


def synthesis(directory: Path) -> float:
    """Run the command in ``directory``; how long it took, seconds. Ends the benchmark where it fails."""
    began = time.monotonic()
    command = [str(Path(sys.executable).with_name("daybreak")), "infra", "synth", "--json"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return time.monotonic() - began


def measure(engine: str, runs: int) -> Measured:
    """``runs`` syntheses with ``engine``, one after the other."""
    with tempfile.TemporaryDirectory() as directory:
        configured(Path(directory), engine)
        seconds = [synthesis(Path(directory)) for _ in range(runs)]
    shortest, middle, longest = min(seconds), statistics.median(seconds), max(seconds)
    return Measured(engine, runs, round(shortest, 1), round(middle, 1), round(longest, 1))


def main() -> None:
    """Measure both engines and print what came of it."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--json", action="store_true", help="as JSON")
    asked = arguments.parse_args()
    measured = [measure(engine, asked.runs) for engine in _ENGINES]
    if asked.json:
        print(json.dumps([asdict(one) for one in measured], indent=2))
        return
    for one in measured:
        print(
            f"{one.engine:6}  {one.runs} runs: {one.min_seconds} s shortest, {one.median_seconds} s median,"
            f" {one.max_seconds} s longest"
        )


if __name__ == "__main__":
    main()
