"""The lock against real processes that are stopped, killed and woken."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from vlret import locks
from vlret.files import InputError
from vlret.locks import Lock, TakenOver, locked

# Holds the lock argv[1] until its standard input closes, then reports whether it still holds it.
HOLD = """
import sys
from pathlib import Path
from vlret import locks
locks.BEAT, locks.PATIENCE = 0.1, 8
with locks.locked(Path(sys.argv[1])) as lock:
    print("held", flush=True)
    sys.stdin.read()
    lock.check()
    print("still held", flush=True)
"""


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.1)
    monkeypatch.setattr(locks, "PATIENCE", 8)


@contextmanager
def holder(path):
    """A process that holds the lock."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], text=True, **pipes)
    try:
        assert process.stdout.readline() == "held\n", process.stderr.read()
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def others(path):
    """Files left beside the lock."""
    return sorted(entry.name for entry in path.parent.iterdir())


def test_a_released_lock_can_be_taken_again_and_leaves_no_files(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "deep" / "lock") as lock:
            lock.check()
            assert len(others(tmp_path / "deep" / "lock")) == 2
        assert others(tmp_path / "deep" / "lock") == []


def test_a_waiter_waits_as_long_as_the_holder_beats(tmp_path, capsys):
    path = tmp_path / "lock"
    with holder(path) as process:
        lock = Lock(path)
        assert not any(lock.attempt() for _ in range(3 * locks.PATIENCE))
        process.stdin.close()
        assert process.wait() == 0
        assert lock.attempt() or lock.attempt()
        lock.release()
    output = capsys.readouterr().err
    assert output.count("waiting for it") == 1
    assert f"process {process.pid} of {os.uname().nodename} holds the lock" in output
    assert others(path) == []


def test_a_stalled_holder_is_replaced_and_finds_out(tmp_path, capsys):
    path = tmp_path / "lock"
    with holder(path) as process:
        process.send_signal(signal.SIGSTOP)
        with locked(path) as lock:
            process.send_signal(signal.SIGCONT)
            process.stdin.close()
            output, error = process.stdout.read(), process.stderr.read()
            assert process.wait() == 1
            assert output == ""
            assert f"process {os.getpid()} of {os.uname().nodename} took over while this process was stalled" in error
            lock.check()
    assert "stalled for 1 s; taking over" in capsys.readouterr().err
    assert others(path) == []


def test_a_killed_holder_on_the_same_machine_is_replaced_at_once(tmp_path, monkeypatch, capsys):
    path = tmp_path / "lock"
    with holder(path) as process:
        process.kill()
        process.wait()
        monkeypatch.setattr(locks, "PATIENCE", 10**6)
        with locked(path):
            pass
    assert f"process {process.pid} of {os.uname().nodename} no longer runs; taking over" in capsys.readouterr().err


def test_a_holder_on_another_machine_is_waited_for(tmp_path):
    path = tmp_path / "lock"
    record = {"host": "elsewhere", "process": 2**22 + 1, "job": "7", "machine": "another", "started": "1", "own": "own"}
    path.write_text(json.dumps(record) + "\n1\n")
    lock = Lock(path)
    assert [lock.attempt() for _ in range(locks.PATIENCE)] == [False] * locks.PATIENCE
    assert any(lock.attempt() for _ in range(3))
    lock.release()


def test_a_waiter_that_stalled_itself_starts_counting_again(tmp_path):
    path = tmp_path / "lock"
    path.write_text("not known here\n")
    lock = Lock(path)
    for _ in range(locks.PATIENCE - 1):
        lock.attempt()
    time.sleep(3 * locks.BEAT + 1.1)
    assert [lock.attempt() for _ in range(locks.PATIENCE - 1)] == [False] * (locks.PATIENCE - 1)
    lock.release()


def test_a_lock_removed_by_mistake_is_restored(tmp_path):
    path = tmp_path / "lock"
    other = Lock(path)
    with locked(path) as lock:
        other._withdraw("the text of the holder before")
        lock.check()
    assert others(path) == []


def test_one_of_many_waiters_holds_the_lock_at_a_time(tmp_path):
    path, script = (
        tmp_path / "lock",
        (
            "import os, sys, time; from pathlib import Path; from vlret import locks; locks.BEAT = 0.05\n"
            "folder = Path(sys.argv[1])\n"
            "for turn in range(3):\n"
            "    with locks.locked(folder / 'lock') as lock:\n"
            "        os.mkdir(folder / 'alone')\n"
            "        time.sleep(0.05)\n"
            "        lock.check()\n"
            "        os.rmdir(folder / 'alone')\n"
            "        print(turn)\n"
        ),
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [process.communicate()[0] for process in started] == ["0\n1\n2\n"] * 4
    assert others(path) == []


def test_a_recent_check_is_not_repeated(tmp_path):
    path = tmp_path / "lock"
    with locked(path) as lock:
        path.unlink()
        lock.check(known=60)
        with pytest.raises(TakenOver, match="another process took over"):
            lock.check()


def test_a_file_system_without_hard_links_is_refused_in_one_line(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    message = r"this file system has no hard links \(Operation not supported\)"
    with pytest.raises(InputError, match=message) as caught, locked(tmp_path / "lock"):
        pass
    assert "\n" not in str(caught.value)
    assert others(tmp_path / "lock") == []
