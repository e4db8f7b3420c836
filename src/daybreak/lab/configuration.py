"""A ``daybreak.toml`` for a lab pair, as an operator would write it: secrets in files of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from psycopg import conninfo

from daybreak.lab.bouncer import READER, WRITER, Bouncer
from daybreak.lab.pair import MIGRATION, Pair
from daybreak.model import Side

Section = Mapping[str, str | int | float | Sequence[int]]


def write_configuration(
    pair: Pair,
    directory: Path,
    *,
    name: str = "rehearsal",
    bouncer: Bouncer | None = None,
    cutover: Section | None = None,
    replication: Section | None = None,
    more: Mapping[str, Section] | None = None,
) -> Path:
    """Write ``daybreak.toml`` and the files of secrets that it names into ``directory``; returns its path.

    ``cutover`` and ``replication`` are keys of the sections of that name, ``more`` has further sections;
    what is left out has its default. Keep the directory closed to others (``tempfile`` does): the secrets are
    not encrypted."""
    sections: dict[str, Section] = {}
    for side in Side:
        sections[side] = {
            "dsn": conninfo.make_conninfo(
                "", **{**pair.cluster(side).parameters(MIGRATION, "-", pair.database), "password": None}
            ),
            "password": _secret(directory / f"{side}.password", pair.migration_password),
        }
    if replication:
        sections["replication"] = replication
    if cutover:
        sections["cutover"] = cutover
    if bouncer is not None:
        console = conninfo.conninfo_to_dict(bouncer.admin_dsn)
        sections["traffic"] = {"router": "pgbouncer"}
        sections["traffic.pgbouncer"] = {
            "admin_dsn": conninfo.make_conninfo("", **{**console, "password": None}),
            "password": _secret(directory / "pgbouncer.password", str(console["password"])),
            "databases_file": str(bouncer.databases_file),
            "writer": WRITER,
            "reader": READER,
        }
    sections.update(more or {})
    lines = [f"name = {json.dumps(name)}"]
    for title, section in sections.items():
        lines += ["", f"[{title}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    path = directory / "daybreak.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _secret(path: Path, value: str) -> str:
    path.touch(0o600)
    path.write_text(value)
    return f"file:{path}"
