"""What Terraform is doing, on standard error: one moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

if TYPE_CHECKING:
    from daybreak.infra import terraform


@contextmanager
def following(console: Console, program: terraform.Terraform, doing: str) -> Iterator[None]:
    """Tell ``console``, in the way that suits it, what ``program`` says while the block runs."""
    if not console.is_terminal:
        console.print(Text(doing))
        program.listener = lambda said: console.print(Text(_line(said)), soft_wrap=True)
        yield
        return
    columns = (SpinnerColumn(), BarColumn(20), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(doing, total=None)

        def show(said: terraform.Progress) -> None:
            if said.total:
                bar.update(task, description=_line(said), completed=said.done, total=said.total)
            else:
                console.print(Text(said.text, "yellow"))

        program.listener = show
        yield


def _line(said: terraform.Progress) -> str:
    return f"{said.done}/{said.total} {said.text}" if said.total else said.text
