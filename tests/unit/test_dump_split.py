"""Taking the script of pg_restore apart."""

from __future__ import annotations

from daybreak.postgres.dump import split

_HEAD = """--
-- PostgreSQL database dump
--

\\restrict abc

-- Dumped from database version 17.10
-- Started on 2026-11-22 20:08:30 UTC

SET statement_timeout = 0;

"""
_TAIL = """
-- Completed on 2026-11-22 20:08:30 UTC

--
-- PostgreSQL database dump complete
--

\\unrestrict abc

"""


def entry(number: int, oid: int, kind: str, name: str, sql: str, needs: str = "") -> str:
    depends = f"-- Dependencies: {needs}\n" if needs else ""
    return (
        f"--\n-- TOC entry {number} (class 1259 OID {oid})\n{depends}"
        f"-- Name: {name}; Type: {kind}; Schema: app; Owner: -\n-- Data Pos: 0\n--\n\n{sql}\n\n\n"
    )


def test_each_entry_has_its_statements_and_nothing_of_its_neighbours() -> None:
    script = (
        _HEAD
        + entry(2, 7, "TYPE", "mood", "CREATE TYPE x;")
        + "SET default_tablespace = '';\n\nSET default_table_access_method = heap;\n\n"
        + entry(3, 8, "TABLE", "t; Type: x", "CREATE TABLE t ();", needs="2 1")
        + _TAIL
    )
    first, second = split(script, frozenset({(2, 1259, 7), (3, 1259, 8)}))
    assert (first.sql, second.sql) == ("CREATE TYPE x;", "CREATE TABLE t ();")
    assert (second.kind, second.schema, second.name, second.needs) == ("TABLE", "app", "t; Type: x", (2, 1))


def test_a_comment_that_looks_like_a_header_stays_a_comment() -> None:
    lookalike = entry(99, 5, "TABLE", "z", "SELECT 1;")
    comment = f"COMMENT ON TABLE t IS '{lookalike}{_TAIL}';"
    script = (
        _HEAD + entry(2, 7, "COMMENT", "TABLE t", comment) + entry(3, 8, "TABLE", "t", "CREATE TABLE t ();") + _TAIL
    )
    first, second = split(script, frozenset({(2, 1259, 7), (3, 1259, 8)}))
    assert first.sql == comment
    assert second.sql == "CREATE TABLE t ();"


def test_an_option_that_only_the_source_knows_is_dropped() -> None:
    sql = (
        "CREATE TABLE t (a integer, b integer);\n"
        "ALTER TABLE ONLY t ALTER COLUMN a SET (pg_attver=26597272);\n"
        "ALTER TABLE ONLY t ALTER COLUMN b SET (n_distinct=5, pg_attver=26597272);"
    )
    (only,) = split(_HEAD + entry(2, 7, "TABLE", "t", sql) + _TAIL, frozenset({(2, 1259, 7)}))
    assert "pg_attver" not in only.sql
    assert only.sql.endswith("ALTER COLUMN b SET (n_distinct=5);")


def test_an_empty_section_has_no_entries() -> None:
    assert split(_HEAD + _TAIL, frozenset()) == ()
