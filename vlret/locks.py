"""A lock for processes of several machines on one file system: its holder's heartbeat keeps it.

It needs nothing of the file system but that links and renames happen at once for all, as on NFS, and no two clocks that
agree: who waits counts how often it found the same text.
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

BEAT = 2.0  # seconds between two beats of a holder, and between two looks of who waits
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV)
PATIENCE = 15  # looks without a beat after which a holder is given up


class TakenOver(InputError):
    """The lock was taken over by another process since this one stood still; it must write nothing more."""


@contextmanager
def locked(path: Path) -> Iterator["Lock"]:
    """Hold the lock `path`, once nobody else does."""
    lock = Lock(path)
    try:
        while not lock.attempt():
            pass
        yield lock
    finally:
        lock.release()


class Lock:
    """A lock that one process at a time holds, on whichever machine it runs.

    `path` is a hard link to a file of the holder's own, which holds who that is and a count of its beats. A thread
    goes on counting. Who finds the same text `PATIENCE` times, `BEAT` seconds apart, takes the link away and puts its
    own there; a holder of the same machine that no longer runs is not waited for. A holder that stood still and goes
    on finds at its next `check` that its file has lost the link.

    Source: open(2) of Linux, O_EXCL, for locking by a link and its count of links over NFS.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        me = {"host": platform.node(), "process": os.getpid(), "job": os.environ.get("SLURM_JOB_ID")}
        self.own = self.path.with_name(f"{self.path.name}.{me['host']}.{me['process']}.{secrets.token_hex(4)}")
        self.record = json.dumps({**me, "machine": _machine(), "started": _started(os.getpid()), "own": self.own.name})
        self.beats, self.beaten, self.waited = 0, 0.0, False
        self.seen, self.looks, self.looked = "", 0, 0.0
        self.ended, self.thread = Event(), Thread(target=self._go_on, daemon=True)

    def attempt(self) -> bool:
        """Whether the lock is held; if another process has it, only after `BEAT` seconds, so that it is asked again."""
        if self.thread.is_alive():
            return True
        if not self.own.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self._beat("w")
        self._link()
        if self.own.stat().st_nlink == 2:  # and not what link() said: over NFS its answer may be lost
            self._beat("r+")
            self.thread.start()
            return True
        self._wait()
        return False

    def _link(self) -> None:
        """Link the own file to the lock's name, where no other is; `InputError` where there are no links."""
        try:
            os.link(self.own, self.path)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno in NO_LINKS:
                raise InputError(
                    f"{self.path.parent}: this file system has no hard links ({error.strerror}), by which jobs that "
                    "write one file keep apart; put the results on another"
                ) from error
            raise

    def check(self, known: float = 0.0) -> None:
        """Return if the lock is still held, or was less than `known` seconds ago.

        Raises
        ------
        TakenOver
            If it is another's: in one line, whose.
        """
        if known and time.monotonic() - self.beaten < known:
            return
        if self._links() < 2:
            holder = _named(_text(self.path))
            raise TakenOver(f"{self.path}: {holder} took over while this process stood still; it writes nothing more")

    def release(self) -> None:
        """Give the lock up, or stop waiting for it; what another process holds by now stays."""
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join()
            if self._links() == 2:
                self._withdraw(_text(self.own))
        self.own.unlink(missing_ok=True)

    def _go_on(self) -> None:
        while not self.ended.wait(BEAT):
            try:
                self._beat("r+")
            except OSError as error:
                if _absent(error):
                    return  # `check` says why
                say(f"{self.own}: no heartbeat could be written ({error}); trying again")

    def _beat(self, mode: str) -> None:
        """Count on in the own file; opening it anew is what makes NFS show the newest."""
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
        """How many names the own file has: 2 while the lock is held, 3 while another process looks whose it is."""
        try:
            with open(self.own, "rb") as stream:
                return os.fstat(stream.fileno()).st_nlink
        except OSError as error:
            if _absent(error):
                return 0
            raise

    def _wait(self) -> None:
        """Look at the holder's text; take its lock away if it stood still."""
        text, now = _text(self.path), time.monotonic()
        # A process that stood still itself has not watched the holder meanwhile.
        watched = text and text == self.seen and now - self.looked < 3 * BEAT + 1
        self.seen, self.looked, self.looks = text, now, self.looks + 1 if watched else 0
        gone = _gone(text)
        if text and (gone or self.looks >= PATIENCE):
            why = "no longer runs" if gone else f"stood still for {self.looks * BEAT:.0f} s"
            say(f"{self.path}: {_named(text)} {why}; taking over")
            self._withdraw(text)
            return
        if text and not self.waited:
            say(f"{self.path}: {_named(text)} is at work here; waiting for it")
            self.waited = True
        time.sleep(BEAT)

    def _withdraw(self, text: str) -> None:
        """Remove the link to a holder's file with this text; another one that stands there by now is put back."""
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
        """Remove the files of processes of this machine that waited for the lock and no longer run."""
        for left in self.path.parent.glob(f"{self.path.name}.*"):
            if _gone(_text(left)) and left.stat().st_nlink == 1:
                left.unlink(missing_ok=True)


def _text(path: Path) -> str:
    """What a lock's file says; nothing if it is gone."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        if _absent(error):
            return ""
        raise


def _absent(error: OSError) -> bool:
    """Whether an error says that a file is no longer there; over NFS it may have another number."""
    return error.errno in (errno.ENOENT, errno.ESTALE)


def _record(text: str) -> dict:
    """Who wrote a lock's file; nothing if it was read while it was written."""
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


def _gone(text: str) -> bool:
    """Whether the text is that of a process of this machine that no longer runs."""
    holder = _record(text)
    return bool(holder) and holder["machine"] == _machine() and holder["started"] != _started(holder["process"])


def _machine() -> str:
    """What processes share that see each other: one start of one machine, and in it one namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(process: int) -> str | None:
    """When a process of this machine started, in the kernel's ticks: its number alone is given anew."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else fields[18]
