"""A lock with a heartbeat for processes of several machines that share a file system.

It requires atomic links and renames, which NFS has, and no synchronised clocks: a waiting process counts how often it
reads the same heartbeat.
"""

import errno
import json
import os
import platform
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from vlret.console import say
from vlret.files import InputError

BEAT = 2.0  # seconds between heartbeats, and between the reads of a waiting process
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV)
PATIENCE = 15  # reads without a heartbeat after which the lock is taken over


class TakenOver(InputError):
    """Another process took over the lock while this one was stalled; this one must not write any more."""


@contextmanager
def locked(path: Path) -> Iterator["Lock"]:
    """Wait for the lock `path` and hold it."""
    lock = Lock(path)
    try:
        while not lock.attempt():
            pass
        yield lock
    finally:
        lock.release()


class Lock:
    """A lock that one process at a time holds, on any machine.

    `path` is a hard link to the holder's own file, which names the holder and counts heartbeats; a thread keeps
    counting. A process that reads the same content `PATIENCE` times, `BEAT` seconds apart, replaces the link by its
    own; a dead holder on the same machine is replaced at once. A holder that stalled and continues finds at its next
    `check` that its file has lost the link.

    Source: open(2) of Linux, O_EXCL: locking over NFS by a hard link and its link count.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        me = {"host": platform.node(), "process": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")}
        self.own = self.path.with_name(f"{self.path.name}.{me['host']}.{me['process']}.{secrets.token_hex(4)}")
        self.record = json.dumps({**me, "machine": _machine(), "started": _started(os.getpid()), "own": self.own.name})
        self.beats, self.beaten, self.waited = 0, 0.0, False
        self.seen, self.looks, self.looked = "", 0, 0.0
        self.ended, self.thread = Event(), Thread(target=self._keep_beating, daemon=True)

    def attempt(self) -> bool:
        """Try once to take the lock; False, after `BEAT` seconds, if another process holds it."""
        if self.thread.is_alive():
            return True
        if not self.own.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self._beat("w")
        self._link()
        if self.own.stat().st_nlink == 2:  # not the result of link(), which NFS may lose
            self._beat("r+")
            self.thread.start()
            return True
        self._wait()
        return False

    def _link(self) -> None:
        """Link the own file to the lock's name, unless taken; raises `InputError` without hard links."""
        try:
            os.link(self.own, self.path)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno in NO_LINKS:
                raise InputError(
                    f"{self.path.parent}: this file system has no hard links ({error.strerror}), which keep jobs from "
                    "writing the same file; put the results on another"
                ) from error
            raise

    def check(self, known: float = 0.0) -> None:
        """Return if the lock is still held, or was less than `known` seconds ago.

        Raises
        ------
        TakenOver
            If another process, which the message names, holds it.
        """
        if known and time.monotonic() - self.beaten < known:
            return
        if self._links() < 2:
            holder = _named(_text(self.path))
            raise TakenOver(f"{self.path}: {holder} took over while this process was stalled; it stops writing")

    def release(self) -> None:
        """Release the lock, or stop waiting for it; a lock that another process took over is untouched."""
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join()
            if self._links() == 2:
                self._withdraw(_text(self.own))
        self.own.unlink(missing_ok=True)

    def _keep_beating(self) -> None:
        while not self.ended.wait(BEAT):
            try:
                self._beat("r+")
            except OSError as error:
                if _vanished(error):
                    return  # `check` says why
                say(f"{self.own}: cannot write a heartbeat ({error}); trying again")

    def _beat(self, mode: str) -> None:
        """Write the next count to the own file; reopening it makes NFS show the newest state."""
        start = time.monotonic()
        with open(self.own, mode, encoding="utf-8") as stream:
            stream.write(f"{self.record}\n{self.beats:012d}\n")
            stream.flush()
            os.fsync(stream.fileno())
            links = os.fstat(stream.fileno()).st_nlink
        self.beats += 1
        if links >= 2:
            self.beaten = start

    def _links(self) -> int:
        """The link count of the own file: 2 while the lock is held, 3 while another process inspects it."""
        try:
            with open(self.own, "rb") as stream:
                return os.fstat(stream.fileno()).st_nlink
        except OSError as error:
            if _vanished(error):
                return 0
            raise

    def _wait(self) -> None:
        """Read the holder's heartbeat; take the lock from a stalled or dead holder."""
        text, now = _text(self.path), time.monotonic()
        # After a stall of its own this process cannot tell whether the holder kept beating.
        watched = text and text == self.seen and now - self.looked < 3 * BEAT + 1
        self.seen, self.looked, self.looks = text, now, self.looks + 1 if watched else 0
        gone = _dead(text)
        if text and (gone or self.looks >= PATIENCE):
            why = "no longer runs" if gone else f"stalled for {self.looks * BEAT:.0f} s"
            say(f"{self.path}: {_named(text)} {why}; taking over")
            self._withdraw(text)
            return
        if text and not self.waited:
            say(f"{self.path}: {_named(text)} holds the lock; waiting for it")
            self.waited = True
        time.sleep(BEAT)

    def _withdraw(self, text: str) -> None:
        """Remove the link to the holder's file with this text; if the lock changed hands meanwhile, restore it."""
        aside = self.own.with_name(f"{self.own.name}.away")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        if _text(aside) != text:
            with suppress(FileExistsError):
                os.link(aside, self.path)
        elif holder := _record(text):
            self.path.with_name(holder["own"]).unlink(missing_ok=True)
        aside.unlink()

    def _sweep(self) -> None:
        """Remove the files of dead processes of this machine that waited for the lock."""
        for left in self.path.parent.glob(f"{self.path.name}.*"):
            if _dead(_text(left)) and left.stat().st_nlink == 1:
                left.unlink(missing_ok=True)


def _text(path: Path) -> str:
    """The content of a lock's file; empty if it is gone."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        if _vanished(error):
            return ""
        raise


def _vanished(error: OSError) -> bool:
    """Whether an error means that a file no longer exists; NFS may report ESTALE."""
    return error.errno in (errno.ENOENT, errno.ESTALE)


def _record(text: str) -> dict:
    """The record of a lock's holder; empty if read in the middle of a write."""
    try:
        return json.loads(text.partition("\n")[0])
    except ValueError:
        return {}


def _named(text: str) -> str:
    holder = _record(text)
    if not holder:
        return "another process"
    job = f", Slurm job {holder['job']}" if holder["job"] else ""
    return f"process {holder['process']} of {holder['host']}{job}"


def _dead(text: str) -> bool:
    """Whether the text is from a dead process of this machine."""
    holder = _record(text)
    return bool(holder) and holder["machine"] == _machine() and holder["started"] != _started(holder["process"])


def _machine() -> str:
    """Boot id and PID namespace: equal for processes that can see each other."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(process: int) -> str | None:
    """Start time of a process of this machine in kernel ticks, since process ids are reused; None if dead."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else fields[18]
