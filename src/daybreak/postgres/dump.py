"""What ``pg_dump`` says of a schema, taken apart into its entries.

Daybreak runs the entries' statements itself instead of leaving that to ``pg_restore``: each in a
transaction that also checks the generation and remembers that it is done, in an order of our choice,
with PostgreSQL's own error for each. ``pg_restore`` only turns the archive into text. Ownership,
tablespaces and table access methods are left out: the first is applied later (``ownership``), the
other two are the target's own.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from daybreak.postgres.installations import Installation
from daybreak.postgres.processes import run
from daybreak.postgres.server import Server

_LOCK_WAIT_MS = 30_000
# With --verbose pg_restore puts this before each entry; names are printed on one line.
_HEADER = re.compile(
    r"^--\n-- TOC entry (?P<id>\d+) \(class (?P<class>\d+) OID (?P<oid>\d+)\)\n"
    r"(?:-- Dependencies: (?P<needs>[\d ]+)\n)?"
    r"-- Name: (?P<name>.*); Type: (?P<kind>[A-Z ]+); Schema: (?P<schema>.*); Owner: .*\n"
    r"(?:-- .*\n)*--\n\n",
    re.MULTILINE,
)
_LISTED = re.compile(r"^(\d+); (\d+) (\d+) ", re.MULTILINE)
_TRAILER = "\n--\n-- PostgreSQL database dump complete\n"
_COMPLETED = re.compile(r"-- Completed on [^\n]*\n*\Z")
_NEXT_SETTINGS = re.compile(r"(?:\s*^SET default_\w+ = [^\n]*;\s*)+\Z", re.MULTILINE)
# Minor releases from November 2026 on keep a number of their own among a column's options; an older
# pg_dump takes it for one that somebody set, and an older server refuses it.
_INTERNAL_OPTION = re.compile(r" SET \((?:(.*), )?pg_attver=\d+(?:, (.*))?\);$", re.MULTILINE)
_WITH_COLUMNS = frozenset({"TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE"})
_VARYING = re.compile(r"^(-- Dumped (from|by) |\\(un)?restrict ).*\n|^ALTER .* SET \(pg_attver=\d+\);\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a dump, or something about one (a comment, its privileges), with its statements.

    ``class_oid`` and ``oid`` are those of the source's catalogs, 0 where it is not an object itself;
    ``needs`` are the ``dump_id`` of entries it depends on."""

    dump_id: int
    class_oid: int
    oid: int
    kind: str
    schema: str
    name: str
    needs: tuple[int, ...]
    sql: str

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.name if self.schema == '-' else f'{self.schema}.{self.name}'}"


@dataclass(frozen=True, slots=True)
class Dump:
    """All entries in an order that satisfies their dependencies: what comes before the rows and what
    comes after (docs, pg_dump --section)."""

    pre_data: tuple[Entry, ...]
    post_data: tuple[Entry, ...]


def dump_schema(
    source: Server, tools: Installation, generation: int, *, keep_compression: bool = True, snapshot: str = ""
) -> Dump:
    """Dump the whole schema, Daybreak's own, publications and subscriptions apart.

    ``keep_compression`` False leaves out columns' TOAST compression methods, for a target that lacks
    one. Waits at most 30 s for a table's lock (ACCESS SHARE). Raises TransientError or PermanentError
    with the words of pg_dump."""
    with tempfile.TemporaryDirectory(prefix="daybreak-") as directory:
        archive = Path(directory) / "schema.dump"
        command = [tools.program("pg_dump"), "--format=custom", f"--file={archive}", *_dump_options(tools)]
        if not keep_compression:
            command.append("--no-toast-compression")
        if snapshot:
            command.append(f"--snapshot={snapshot}")
        run(f"{source.side}: pg_dump", command, source.tool_environment(generation, "schema"))
        return Dump(_section(archive, tools, "pre-data"), _section(archive, tools, "post-data"))


def schema_text(server: Server, tools: Installation) -> str:
    """A plain schema dump of the database, Daybreak's own schema included, without what differs from
    run to run: equal texts mean that nothing changed."""
    command = [tools.program("pg_dump"), "--schema-only", "--no-password"]
    text = run(f"{server.side}: pg_dump", command, server.tool_environment(0, "dump"))
    return _VARYING.sub("", text.decode(errors="surrogateescape"))


def split(script: str, listed: frozenset[tuple[int, int, int]]) -> tuple[Entry, ...]:
    """Take a script of ``pg_restore --verbose`` apart. ``listed`` are the entries that ``--list``
    names (id, class, oid), so that a comment which looks like a header is not taken for one."""
    body = _COMPLETED.sub("", script[: script.rindex(_TRAILER)])
    headers: list[re.Match[str]] = []
    left = set(listed)
    for match in _HEADER.finditer(body):
        key = (int(match["id"]), int(match["class"]), int(match["oid"]))
        if key in left:
            left.remove(key)
            headers.append(match)
    starts = [match.start() for match in headers] + [len(body)]
    return tuple(_entry(match, body[match.end() : end]) for match, end in zip(headers, starts[1:], strict=True))


def _entry(header: re.Match[str], text: str) -> Entry:
    statements = _NEXT_SETTINGS.sub("", text).strip()
    if header["kind"] in _WITH_COLUMNS:
        statements = _INTERNAL_OPTION.sub(_other_options, statements)
    return Entry(
        dump_id=int(header["id"]),
        class_oid=int(header["class"]),
        oid=int(header["oid"]),
        kind=header["kind"],
        schema=header["schema"],
        name=header["name"],
        needs=tuple(map(int, (header["needs"] or "").split())),
        sql=statements,
    )


def _other_options(match: re.Match[str]) -> str:
    """An empty list is no syntax, so without other options reset one that nobody has set."""
    others = ", ".join(option for option in match.groups() if option)
    return f" SET ({others});" if others else " RESET (n_distinct);"


def _dump_options(tools: Installation) -> Sequence[str]:
    options = [
        "--section=pre-data",
        "--section=post-data",
        "--no-blobs" if tools.major < 16 else "--no-large-objects",
        "--no-publications",
        "--no-subscriptions",
        "--exclude-schema=daybreak",
        "--quote-all-identifiers",
        "--encoding=UTF8",
        f"--lock-wait-timeout={_LOCK_WAIT_MS}",
        "--no-password",
    ]
    return [*options, "--no-statistics"] if tools.major >= 18 else options


def _section(archive: Path, tools: Installation, section: str) -> tuple[Entry, ...]:
    command = [tools.program("pg_restore"), f"--section={section}", "--no-owner", "--no-tablespaces"]
    listing = run("pg_restore", [*command, "--list", str(archive)], {}).decode(errors="surrogateescape")
    script = run("pg_restore", [*command, "--verbose", "--file=-", str(archive)], {}).decode(errors="surrogateescape")
    return split(script, frozenset((int(a), int(b), int(c)) for a, b, c in _LISTED.findall(listing)))
