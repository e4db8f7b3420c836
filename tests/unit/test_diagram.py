"""The page about the state machine is written from the table, and a check notices where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from daybreak import diagram
from daybreak.model import Phase
from daybreak.table import TABLE


def test_the_page_shows_every_row_and_every_phase() -> None:
    page = diagram.render()
    for row in TABLE:
        assert f"| `{row.step}` | {', '.join(row.verbs)} | " in page
        assert row.what in page
        assert "lambda" not in row.needed.__name__
    for phase in Phase:
        assert f" --> {phase}" in page


def test_the_check_tells_a_page_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    assert diagram.main(["--check"]) == 1
    assert diagram.main([]) == 0
    assert diagram.main(["--check"]) == 0
    diagram.PATH.write_text(diagram.render() + "\n")
    assert diagram.main(["--check"]) == 1
    assert "run `python -m daybreak.diagram`" in capsys.readouterr().err
