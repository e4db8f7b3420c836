"""Patterns of tables, as LIKE understands them."""

from __future__ import annotations

import pytest

from daybreak.postgres.catalog import like_patterns


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("public.*", ("public", "%")),
        ("*.*", ("%", "%")),
        ("app.log_2024*", ("app", "log\\_2024%")),
        ("a%b.c\\d", ("a\\%b", "c\\\\d")),
    ],
)
def test_everything_but_the_star_is_literal(pattern: str, expected: tuple[str, str]) -> None:
    assert like_patterns(pattern) == expected
