"""Map a function over chunks by several processes, in order: same results for any number of processes."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2  # chunks per worker that may be done before the first of them is used


def in_order(work: Callable[[T], R], chunks: Iterable[T], workers: int) -> Iterator[R]:
    """Yield `work(chunk)` for each of `chunks`, in order.

    With one worker, or one chunk, no process is started. Exceptions of `work` are raised here, in the chunk's turn. To
    bound memory, at most `AHEAD` chunks per worker are taken from `chunks` early.

    Parameters
    ----------
    work
        A module-level function, or `partial` of one: it is pickled, as are chunks and results.
    workers
        Processes, at least one.
    """
    chunks = iter(chunks)
    first = list(islice(chunks, 2))
    if workers == 1 or len(first) < 2:
        yield from map(work, chain(first, chunks))
        return
    # Not forked from here: a copy of this process would never release the locks of Arrow's threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vlret.data.tables"])  # slow imports, once for all workers
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
