"""Terraform's errors in few words: which resource, what AWS said, what to do."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from daybreak.errors import PermanentError, StateConflict

_SHOWN = 10
# The SDK's preamble; the API's own code and message follow it.
_PREAMBLE = re.compile(
    r"operation error [^:]+: \w+, (exceeded maximum number of attempts, \d+, )?"
    r"https response error [^,]+, RequestID: [^,]*, (HostID: [^,]*, )?"
)
_FIELD = re.compile(r"^\s*(ID|Who|Operation|Created):\s+(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Complaint:
    """One error. ``address`` is empty where it is no resource's."""

    address: str
    summary: str
    detail: str

    def line(self) -> str:
        """In one line, or two where Terraform explains."""
        where = f"{self.address}: " if self.address else ""
        summary, detail = _short(self.summary), _short(self.detail)
        return where + summary + (f"\n    {detail}" if detail else "")


def _short(text: str) -> str:
    """Without what follows an empty line: Terraform's advice to its own users."""
    return _PREAMBLE.sub("", text.strip().partition("\n\n")[0])


def raise_complaints(complaints: list[Complaint], directory: Path) -> NoReturn:
    """Raise StateConflict for a lock that another run holds, PermanentError for everything else."""
    run = f"terraform -chdir={shlex.quote(str(directory))}"
    for one in complaints:
        if one.summary == "Error acquiring the state lock" and "Lock Info" in one.detail:
            raise _held(one, run)
    told = dict.fromkeys(one.line() for one in complaints if one.summary != "execution halted")
    lines = "\n".join(f"  {line}" for line in list(told)[:_SHOWN])
    raise PermanentError(f"Terraform failed:\n{lines}", _hint(complaints, directory, run))


def _held(complaint: Complaint, run: str) -> StateConflict:
    lock = _lock(complaint.detail)
    return StateConflict(
        f"The stack's state is locked by {lock.get('Who', 'somebody')} "
        f"since {lock.get('Created', 'a time unknown').partition('.')[0]} UTC ({lock.get('Operation', 'unknown')}).",
        f"Wait until that run has ended. Only if it is dead for certain: `{run} force-unlock {lock.get('ID', 'ID')}`, "
        "then the same command again.",
    )


def _lock(text: str) -> dict[str, str]:
    return {name: value.strip() for name, value in _FIELD.findall(text)}


def _hint(complaints: list[Complaint], directory: Path, run: str) -> str:
    text = "\n".join(f"{one.summary} {one.detail}" for one in complaints)
    if (directory / "errored.tfstate").exists():
        return (
            f"The state could not be saved where it belongs: `{run} state push errored.tfstate` before anything else."
        )
    if "Backend configuration changed" in text:
        return f"To take the state along to its new place: `{run} init -migrate-state`, then the same command again."
    if "No valid credential sources" in text or "ExpiredToken" in text:
        return "Log in to AWS (`aws sts get-caller-identity` must answer), then the same command again."
    if "Error releasing the state lock" in text:
        held = _lock(text).get("ID")
        if held is None:
            return "Somebody removed the lock meanwhile. What was made is in the state; see that nobody else deploys."
        return f"What was made is in the state. Give the lock back: `{run} force-unlock {held}`."
    return "What was made is kept in the state. Mend this, then the same command goes on."
