"""Child programs end with us, whatever happens to us, and keep secrets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from daybreak.errors import PermanentError
from daybreak.postgres.processes import run, started

_SLEEP = ["/bin/sleep", "600"]


def gone(pid: int) -> bool:
    """Waits a little, because a signal takes its time."""
    try:
        psutil.Process(pid).wait(10)
    except psutil.NoSuchProcess:
        return True
    return not psutil.pid_exists(pid)


def test_a_child_ends_with_the_block() -> None:
    with started(_SLEEP, {}) as child:
        assert not child.finished(0.0)
    assert gone(child.pid)


def test_a_child_ends_where_an_error_leaves_the_block() -> None:
    with pytest.raises(KeyboardInterrupt), started(_SLEEP, {}) as child:
        raise KeyboardInterrupt
    assert gone(child.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the children of a killed process")
def test_a_child_of_a_thread_does_not_outlive_a_killed_parent() -> None:
    program = """
import threading, time
from daybreak.postgres.processes import started
def work():
    with started(["/bin/sleep", "600"], {}) as child:
        while open(f"/proc/{child.pid}/comm").read() != "sleep\\n":
            time.sleep(0.01)
        print(child.pid, flush=True)
        child.finished()
threading.Thread(target=work).start()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.send_signal(signal.SIGKILL)
    assert gone(pid)


def test_ctrl_c_in_the_terminal_reaches_us_alone() -> None:
    with started(_SLEEP, {}) as child:
        assert os.getpgid(child.pid) != os.getpgid(0)


def test_a_stubborn_child_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(600)"
    )
    with started([sys.executable, "-c", script], {}) as child:
        while not ready.exists():
            assert not child.finished(0.01)
    assert gone(child.pid)


def test_output_comes_back_and_an_error_keeps_the_password() -> None:
    assert run("x", ["/bin/echo", "hello"], {}) == b"hello\n"
    with pytest.raises(PermanentError) as caught:
        run("x", ["/bin/sh", "-c", "echo it was $PGPASSWORD >&2; exit 3"], {"PGPASSWORD": "s3cret"})
    assert "it was ***" in caught.value.message


def test_the_password_is_in_no_repr_and_no_argument() -> None:
    with started(_SLEEP, {"PGPASSWORD": "s3cret"}) as child:
        assert "s3cret" not in repr(child)
        assert "s3cret" not in " ".join(psutil.Process(child.pid).cmdline())


def test_threads_may_start_children_at_the_same_time() -> None:
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(run("x", ["/bin/echo", str(n)], {}))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [f"{n}\n".encode() for n in range(8)]
