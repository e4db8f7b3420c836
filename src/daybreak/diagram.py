"""docs/state-machine.md, written from ``table.TABLE`` so that it can't differ from what the controller does.

``python -m daybreak.diagram`` writes the file; with ``--check`` it exits 1 where the file differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from daybreak.model import Phase
from daybreak.table import TABLE, Row

PATH = Path("docs/state-machine.md")

_INTRODUCTION = """\
# The state machine

<!-- Written by `python -m daybreak.diagram` from src/daybreak/table.py. Edit that instead. -->

A migration is in one *phase*. What an operator asks for is written into its record; in every turn the
controller looks at both servers, the streams and the router, and takes the first step below that belongs to
the phase and to what was asked for and that is *needed now*. So a controller that was killed goes on from what
it finds, and a step whose effect is seen already is not taken again. What can't be seen is waited for, never
assumed. `daybreak cutover --plan` prints the steps for the state that your migration is in.

"""
_NOTES = """\

*Recovery* steps mend what a crash or DDL left behind. A refused, failed or aborted switchover is given up as
long as its commit point was not passed: then only DISARM and END_SWITCH remain, after REOPEN where the flag
was left closed. Once the old primary was seen closed there is only forward.
"""


def render() -> str:
    """The whole page."""
    phases = [phase for phase in Phase if any(row.phase is phase for row in TABLE)]
    return _INTRODUCTION + _diagram() + _NOTES + "".join(_section(phase) for phase in phases)


def _diagram() -> str:
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for row in TABLE:
        if row.enters is not None:
            known = arrows.setdefault((row.phase, row.enters), [])
            known += [verb for verb in row.verbs if verb not in known]
    lines = [f"    {begin} --> {end}: {', '.join(verbs)}" for (begin, end), verbs in arrows.items()]
    ends = [f"    {phase} --> [*]" for phase in Phase if not any(row.phase is phase for row in TABLE)]
    body = "\n".join(["stateDiagram-v2", f"    [*] --> {TABLE[0].phase}", *lines, *ends])
    return f"```mermaid\n{body}\n```\n"


def _section(phase: Phase) -> str:
    rows = "".join(_line(row) for row in TABLE if row.phase is phase)
    return f"\n## {phase}\n\n| step | asked for | while | what it does | |\n|---|---|---|---|---|\n{rows}"


def _line(row: Row) -> str:
    notes = [f"→ {row.enters}"] if row.enters is not None else []
    notes += ["pauses writes"] if row.pauses_writes else []
    notes += ["recovery"] if row.recovery else []
    while_ = row.needed.__name__.strip("_").replace("_", " ")
    return f"| `{row.step}` | {', '.join(row.verbs)} | {while_} | {row.what} | {', '.join(notes)} |\n"


def main(arguments: list[str]) -> int:
    """Write the page, or with ``--check`` compare it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m daybreak.diagram", description="Write or check the page.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the file differs")
    if not parser.parse_args(arguments).check:
        PATH.write_text(render())
        return 0
    if PATH.is_file() and PATH.read_text() == render():
        return 0
    print(f"{PATH} does not show src/daybreak/table.py: run `python -m daybreak.diagram`.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
