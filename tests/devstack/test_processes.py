from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest

from devstack import processes
from devstack.processes import Command, ProcessGroup
from models.errors import SetupFailed
from tests.devstack.commands import ROOT
from tests.support.waiting import wait_until

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
PATIENT = "import time; print('up', flush=True); time.sleep(60)"


def _command(folder: Path, code: str, name: str = "child", **more: object) -> Command:
    return Command(name, [sys.executable, "-c", code], folder / f"{name}.log", **more)  # type: ignore[arg-type]


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _says(folder: Path, text: str, name: str = "child") -> bool:
    log = folder / f"{name}.log"
    return log.exists() and text in log.read_text()


def test_all_children_are_stopped_with_their_own_signal(tmp_path: Path) -> None:
    code = """
        import signal, sys, time
        for name in ("SIGTERM", "SIGINT"):
            signal.signal(getattr(signal, name), lambda number, frame: sys.exit(signal.Signals(number).name))
        print("up", flush=True)
        time.sleep(60)
    """
    with ProcessGroup() as group:
        group.start(_command(tmp_path, textwrap.dedent(code), "first"))
        group.start(_command(tmp_path, textwrap.dedent(code), "second", stop_signal=signal.SIGINT))
        wait_until(lambda: _says(tmp_path, "up", "first") and _says(tmp_path, "up", "second"))
    assert _says(tmp_path, "SIGTERM", "first")
    assert _says(tmp_path, "SIGINT", "second")


def test_a_child_that_does_not_stop_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    with ProcessGroup(grace_s=0.2) as group:
        child = group.start(_command(tmp_path, STUBBORN))
        wait_until(lambda: _says(tmp_path, "up"))
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("code", [PATIENT, STUBBORN], ids=["patient", "stubborn"])
def test_children_of_a_killed_owner_are_stopped(tmp_path: Path, code: str) -> None:
    owner_code = f"""
        import os, sys, signal
        from pathlib import Path
        from devstack.processes import Command, ProcessGroup
        from tests.support.waiting import wait_until
        log = Path({str(tmp_path / "child.log")!r})
        child = ProcessGroup(grace_s=0.3).start(Command("child", [sys.executable, "-c", {code!r}], log))
        wait_until(lambda: "up" in log.read_text())
        print(child.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    owner = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(owner_code)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert owner.returncode == -signal.SIGKILL
    wait_until(lambda: _is_gone(int(owner.stdout)), 10, "the child lives on")


def test_released_children_outlive_their_owner(tmp_path: Path) -> None:
    group = ProcessGroup()
    child = group.start(_command(tmp_path, PATIENT))
    wait_until(lambda: _says(tmp_path, "up"))
    group.release()
    try:
        # The guard has ended by now: nobody is left who would stop the child.
        assert not _is_gone(child.pid)
    finally:
        os.kill(child.pid, signal.SIGKILL)


def test_a_child_that_ends_while_starting_is_reported_with_what_it_said_last(tmp_path: Path) -> None:
    with ProcessGroup() as group:
        child = group.start(_command(tmp_path, "print('no room for data'); print('   at Frame(1)'); exit(3)"))
        with pytest.raises(SetupFailed, match=r"exit 3.*no room for data.*child\.log"):
            group.wait_until(child, lambda: False, 10)


def test_a_program_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with ProcessGroup() as group:
        child = group.start(Command("child", ["/nowhere/program"], tmp_path / "child.log"))
        with pytest.raises(SetupFailed, match="not found"):
            group.wait_until(child, lambda: False, 10)


def test_a_child_that_is_never_ready_is_reported_after_the_deadline(tmp_path: Path) -> None:
    with ProcessGroup() as group:
        child = group.start(_command(tmp_path, PATIENT))
        with pytest.raises(SetupFailed, match="not ready after"):
            group.wait_until(child, lambda: False, 0.1)


def test_a_stopped_group_starts_nothing_more(tmp_path: Path) -> None:
    group = ProcessGroup()
    group.stop()
    with pytest.raises(SetupFailed, match="has been stopped"):
        group.start(_command(tmp_path, PATIENT))
    assert not (tmp_path / "child.log").exists()


def test_one_child_can_be_killed_without_the_others(tmp_path: Path) -> None:
    with ProcessGroup() as group:
        kept = group.start(_command(tmp_path, PATIENT, "kept"))
        killed = group.start(_command(tmp_path, PATIENT, "killed"))
        assert group.stop_one(killed, signal.SIGKILL) == -signal.SIGKILL
        assert kept.returncode is None
        assert group.children == [kept]


def test_children_can_be_started_from_many_threads(tmp_path: Path) -> None:
    with ProcessGroup() as group:
        threads = [
            threading.Thread(target=lambda n=n: group.start(_command(tmp_path, PATIENT, f"child{n}")))  # type: ignore[misc]
            for n in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(group.children) == 6
    assert all(child.returncode == -signal.SIGTERM for child in group.children)


def test_a_log_that_has_grown_large_is_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES_MAX", 10)
    log = tmp_path / "server.log"
    for text in (b"first, too long\n", b"second, too long\n", b"third\n"):
        with processes.open_log(log) as file:
            file.write(text)
    assert log.read_bytes() == b"third\n"
    assert (tmp_path / "server.log.1").read_bytes() == b"second, too long\n"
