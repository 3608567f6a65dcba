"""One function over many chunks, by several processes, in order: the results are the same for any number of them."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2  # chunks for each worker that may be done before the first of them is used


def in_order(work: Callable[[T], R], chunks: Iterable[T], workers: int) -> Iterator[R]:
    """Yield `work` of each of `chunks`, in their order.

    With one worker, or one chunk, no process is started. What `work` raises is raised here, in its chunk's turn; only
    `AHEAD` chunks a worker are taken from `chunks` before their turn, so that memory is bounded.

    Parameters
    ----------
    work
        A function of a module, or `partial` of one, since it travels to the workers, as chunks and results do.
    workers
        Processes, at least one.
    """
    chunks = iter(chunks)
    first = list(islice(chunks, 2))
    if workers == 1 or len(first) < 2:
        yield from map(work, chain(first, chunks))
        return
    # Not forked from here: this process may have threads of Arrow's, whose locks a copy would hold for ever.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vlret.data.tables"])  # what takes long to import, once for all workers
    pool = ProcessPoolExecutor(workers, context)
    waiting: deque[Future[R]] = deque()
    try:
        for chunk in chain(first, chunks):
            waiting.append(pool.submit(work, chunk))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
