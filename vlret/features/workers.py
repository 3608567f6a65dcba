"""Image files to what a backbone takes, in processes of their own: a file may kill one or keep it busy, not more.

A decoder that crashes or runs forever on a hostile file takes its process along; the file is then unreadable like any
other broken one, and another process goes on. So it is where an image makes `prepare` raise anything; what `prepare`
makes of a plain image is asked before, so that a fault of its own is not counted on the images.
"""

import resource
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

from PIL import Image

from vlret.data.images import ImageError, open_image
from vlret.files import told

PLAIN = (64, 48)  # pixels of an image that every `prepare` takes
SECONDS = 120  # that one file may take
MEMORY = 4 * 2**30  # bytes that one file may take
# An interrupt is for the process that asks, which ends this one. The path first: by it the rest is found.
START = """
import signal, sys
from multiprocessing.connection import Connection
signal.signal(signal.SIGINT, signal.SIG_IGN)
pipe = Connection(int(sys.argv[1]))
sys.path = pipe.recv()
from vlret.features.workers import work
work(pipe)
"""
AHEAD = 32  # files for each worker that may be prepared before the first of them is used
ASKED = 2  # files that a worker is given at a time, so that it does not wait for the next


def prepared(
    names: Sequence[str], folder: Path, prepare: Callable[[Image.Image], Any], workers: int
) -> Iterator[tuple[str, Any | ImageError]]:
    """Each of `names` in their order, and what `prepare` makes of its image, or what is wrong with it.

    Parameters
    ----------
    names
        Of files in `folder`; one that is more than a name is refused.
    prepare
        From an RGB image to anything; it travels to the workers, so it must be picklable.
    workers
        Processes that decode, at least one.

    Raises
    ------
    RuntimeError
        If a worker does not start or `prepare` fails at a plain image: neither is a file's fault.
    """
    crew = _Crew(names, Path(folder), prepare, workers)
    try:
        for place, name in enumerate(names):
            yield name, crew.result(place)
    finally:
        crew.dismiss()


class _Crew:
    """The workers, what each was asked, and the results that wait for their turn."""

    def __init__(self, names: Sequence[str], folder: Path, prepare: Callable, workers: int):
        self.names, self.what, self.size = names, (folder, prepare), workers
        self.waiting, self.done = deque(range(len(names))), {}
        self.suspects: set[int] = set()
        self.workers: list[_Worker] = []

    def result(self, place: int) -> Any | ImageError:
        while place not in self.done:
            self._hire()
            self._ask(place + AHEAD * self.size)
            connection.wait([worker.pipe for worker in self.workers if worker.asked], timeout=1)
            for worker in list(self.workers):
                self._hear(worker)
        return self.done.pop(place)

    def _hire(self) -> None:
        for _ in range(min(self.size, len(self.names)) - len(self.workers)):
            self.workers.append(_Worker(*self.what))

    def _ask(self, end: int) -> None:
        """Give work to whoever has too little, but none that is far from being used."""
        for worker in self.workers:
            while len(worker.asked) < ASKED and self.waiting and self.waiting[0] < end:
                worker.ask(self.waiting.popleft(), self.names)

    def _hear(self, worker: "_Worker") -> None:
        try:
            while worker.asked and worker.has_news():
                self.done[worker.asked[0]] = worker.answer()
                worker.asked.popleft()
        except (EOFError, ConnectionError):
            self._replace(worker)
            return
        if worker.asked and worker.started and time.monotonic() - worker.since > SECONDS:
            self._give_up(worker, f"not decoded within {SECONDS} s; convert it")
            self._replace(worker)

    def _replace(self, worker: "_Worker") -> None:
        """Let a dead or stuck worker go; what it was at is tried once more, since another may have killed it."""
        worker.dismiss()
        self.workers.remove(worker)
        if not worker.started:
            raise RuntimeError(
                f"a process that decodes images ended with code {worker.process.returncode} at its start"
            )
        if worker.asked and worker.asked[0] in self.suspects:
            self._give_up(worker, f"ended the process that decoded it (code {worker.process.returncode}); convert it")
        elif worker.asked:
            self.suspects.add(worker.asked[0])
        self.waiting.extendleft(reversed(worker.asked))

    def _give_up(self, worker: "_Worker", reason: str) -> None:
        place = worker.asked.popleft()
        self.done[place] = ImageError(self.what[0] / self.names[place], reason)

    def dismiss(self) -> None:
        for worker in self.workers:
            worker.dismiss()


class _Worker:
    """A process, the pipe to it, and the places of the names that it was given."""

    def __init__(self, folder: Path, prepare: Callable):
        self.pipe, theirs = connection.Pipe()
        self.asked: deque[int] = deque()
        self.started, self.since = False, time.monotonic()
        # Not forked from this process, whose threads and GPU would be half there, and not multiprocessing's own way of
        # starting afresh, which imports this process's main module again.
        command = [sys.executable, "-P", "-c", START, str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        for message in (sys.path, (folder, prepare)):
            self.pipe.send(message)

    def ask(self, place: int, names: Sequence[str]) -> None:
        if not self.asked:
            self.since = time.monotonic()
        self.asked.append(place)
        try:
            self.pipe.send(names[place])
        except ConnectionError:
            return  # it is dead, which reading from it will tell

    def has_news(self) -> bool:
        if not self.started:
            # Asked once: what comes between two questions would be its start, and be taken for an answer.
            if not self.pipe.poll():
                return False
            if fault := self.pipe.recv():
                raise RuntimeError(f"images cannot be prepared, not even a plain one:\n{fault}")
            self.started, self.since = True, time.monotonic()
        return self.pipe.poll()

    def answer(self) -> Any | ImageError:
        result = self.pipe.recv()
        self.since = time.monotonic()
        return result

    def dismiss(self) -> None:
        self.process.kill()
        self.process.wait()
        self.pipe.close()


def work(pipe: connection.Connection) -> None:
    """What a worker does until nobody asks any more."""
    folder, prepare = pipe.recv()
    _limit_memory()
    try:
        pipe.send(_fault(prepare))
        while True:
            pipe.send(_prepared(folder, pipe.recv(), prepare))
    except (EOFError, ConnectionError):
        return


def _fault(prepare: Callable) -> str:
    """How `prepare` fails at a plain image, or nothing where it does not."""
    try:
        prepare(Image.new("RGB", PLAIN, "grey"))
    except Exception:
        return traceback.format_exc()
    return ""


def _prepared(folder: Path, name: str, prepare: Callable) -> Any | ImageError:
    try:
        if Path(name).name != name:
            raise ImageError(name, "not the name of a file in the folder of images")
        return prepare(open_image(folder / name))
    except ImageError as error:
        return error
    except MemoryError:
        return ImageError(folder / name, f"needs more than {MEMORY // 2**30} GiB to be decoded; scale it down")
    except Exception as error:
        return ImageError(folder / name, f"cannot be prepared ({told(error)}); convert it")


def _limit_memory() -> None:
    """Allow `MEMORY` more than what the process has, libraries and all; a crash leaves no core behind."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status = Path("/proc/self/status").read_text()
    data = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (data + MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
