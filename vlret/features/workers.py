"""Prepare image files for a backbone in separate processes, which a file may crash or block.

If a decoder crashes or hangs on a hostile file, its process is replaced and the file counts as unreadable. So does a
file for which `prepare` raises anything; `prepare` is first tried on a plain image, so that its own bugs are not blamed
on the files.
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
from vlret.files import error_summary

PLAIN = (64, 48)  # size in pixels of the plain image
SECONDS = 120  # time limit per file
MEMORY = 4 * 2**30  # memory limit per file, in bytes
# The parent handles interrupts and ends this process. `sys.path` comes first, as the imports depend on it.
START = """
import signal, sys
from multiprocessing.connection import Connection
signal.signal(signal.SIGINT, signal.SIG_IGN)
pipe = Connection(int(sys.argv[1]))
sys.path = pipe.recv()
from vlret.features.workers import work
work(pipe)
"""
AHEAD = 32  # files per worker that may be prepared ahead of use
QUEUED = 2  # files queued per worker, so that it never waits for the next


def prepared(
    names: Sequence[str], folder: Path, prepare: Callable[[Image.Image], Any], workers: int
) -> Iterator[tuple[str, Any | ImageError]]:
    """Each of `names` in order, with the output of `prepare` for its image, or its `ImageError`.

    Parameters
    ----------
    names
        File names in `folder`; paths are rejected.
    prepare
        RGB image to anything; it is sent to the workers, so must be picklable.
    workers
        The number of decoding processes, at least one.

    Raises
    ------
    RuntimeError
        If a worker does not start or `prepare` fails for a plain image.
    """
    pool = _Pool(names, Path(folder), prepare, workers)
    try:
        for place, name in enumerate(names):
            yield name, pool.result(place)
    finally:
        pool.stop()


class _Pool:
    """The workers, their queues, and the results not yet used."""

    def __init__(self, names: Sequence[str], folder: Path, prepare: Callable, workers: int):
        self.names, self.arguments, self.size = names, (folder, prepare), workers
        self.waiting, self.done = deque(range(len(names))), {}
        self.suspects: set[int] = set()
        self.workers: list[_Worker] = []

    def result(self, place: int) -> Any | ImageError:
        while place not in self.done:
            self._start_workers()
            self._enqueue(place + AHEAD * self.size)
            connection.wait([worker.pipe for worker in self.workers if worker.queue], timeout=1)
            for worker in list(self.workers):
                self._receive(worker)
        return self.done.pop(place)

    def _start_workers(self) -> None:
        for _ in range(min(self.size, len(self.names)) - len(self.workers)):
            self.workers.append(_Worker(*self.arguments))

    def _enqueue(self, end: int) -> None:
        """Fill the workers' queues with files before place `end`."""
        for worker in self.workers:
            while len(worker.queue) < QUEUED and self.waiting and self.waiting[0] < end:
                worker.enqueue(self.waiting.popleft(), self.names)

    def _receive(self, worker: "_Worker") -> None:
        try:
            while worker.queue and worker.has_result():
                self.done[worker.queue[0]] = worker.receive()
                worker.queue.popleft()
        except (EOFError, ConnectionError):
            self._replace(worker)
            return
        if worker.queue and worker.started and time.monotonic() - worker.since > SECONDS:
            self._give_up(worker, f"not decoded within {SECONDS} s; convert it")
            self._replace(worker)

    def _replace(self, worker: "_Worker") -> None:
        """Replace a dead or stuck worker and retry its file once, as the file may not be the cause."""
        worker.stop()
        self.workers.remove(worker)
        if not worker.started:
            raise RuntimeError(f"an image decoding process exited with code {worker.process.returncode} at its start")
        if worker.queue and worker.queue[0] in self.suspects:
            self._give_up(worker, f"crashed its decoding process (code {worker.process.returncode}); convert it")
        elif worker.queue:
            self.suspects.add(worker.queue[0])
        self.waiting.extendleft(reversed(worker.queue))

    def _give_up(self, worker: "_Worker", reason: str) -> None:
        place = worker.queue.popleft()
        self.done[place] = ImageError(self.arguments[0] / self.names[place], reason)

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()


class _Worker:
    """A process, the pipe to it, and the places of its queued names."""

    def __init__(self, folder: Path, prepare: Callable):
        self.pipe, theirs = connection.Pipe()
        self.queue: deque[int] = deque()
        self.started, self.since = False, time.monotonic()
        # Neither forked, which breaks threads and the GPU, nor spawned by multiprocessing, which would import this
        # process's main module again.
        command = [sys.executable, "-P", "-c", START, str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        for message in (sys.path, (folder, prepare)):
            self.pipe.send(message)

    def enqueue(self, place: int, names: Sequence[str]) -> None:
        if not self.queue:
            self.since = time.monotonic()
        self.queue.append(place)
        try:
            self.pipe.send(names[place])
        except ConnectionError:
            return  # reading from it will show that it is dead

    def has_result(self) -> bool:
        if not self.started:
            # Polled only once: a start message that arrives between two polls would pass for a result.
            if not self.pipe.poll():
                return False
            if fault := self.pipe.recv():
                raise RuntimeError(f"even a plain image cannot be prepared:\n{fault}")
            self.started, self.since = True, time.monotonic()
        return self.pipe.poll()

    def receive(self) -> Any | ImageError:
        result = self.pipe.recv()
        self.since = time.monotonic()
        return result

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.pipe.close()


def work(pipe: connection.Connection) -> None:
    """A worker's main loop, until the pipe closes."""
    folder, prepare = pipe.recv()
    _limit_memory()
    try:
        pipe.send(_fault(prepare))
        while True:
            pipe.send(_prepared(folder, pipe.recv(), prepare))
    except (EOFError, ConnectionError):
        return


def _fault(prepare: Callable) -> str:
    """The traceback of `prepare` for a plain image, empty if it succeeds."""
    try:
        prepare(Image.new("RGB", PLAIN, "grey"))
    except Exception:
        return traceback.format_exc()
    return ""


def _prepared(folder: Path, name: str, prepare: Callable) -> Any | ImageError:
    try:
        if Path(name).name != name:
            raise ImageError(name, "not a file name in the image folder")
        return prepare(open_image(folder / name))
    except ImageError as error:
        return error
    except MemoryError:
        return ImageError(folder / name, f"needs more than {MEMORY // 2**30} GiB to decode; scale it down")
    except Exception as error:
        return ImageError(folder / name, f"cannot be prepared ({error_summary(error)}); convert it")


def _limit_memory() -> None:
    """Limit the process to `MEMORY` beyond its current size, and disable core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status = Path("/proc/self/status").read_text()
    data = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (data + MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
