"""Distributed training on processes started by `torchrun`: gloo on CPUs, NCCL on GPUs."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vlret import console


@contextmanager
def processes() -> Iterator[None]:
    """Initialise the process group from `torchrun`'s environment; a single process without it."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def device() -> torch.device:
    """This process's GPU, or the CPU without one."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def worker() -> ThreadPoolExecutor:
    """A thread that prepares tensors for this process's GPU, which each thread must be told."""
    return ThreadPoolExecutor(1, initializer=_use, initargs=(device(),))


def _use(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)


def say(line: str) -> None:
    """`vlret.console.say` on the first process only."""
    if rank() == 0:
        console.say(line)


def wait() -> None:
    """Wait for all processes."""
    if world() > 1:
        dist.barrier()


def largest(number: int) -> int:
    """The maximum over all processes."""
    if world() == 1:
        return number
    shared = torch.tensor(number, device=device())
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return int(shared)


class Largest:
    """The maximum over all of several processes, asked for now and read later; asking waits for nothing."""

    def __init__(self, number: int):
        self.shared = torch.full((), number, device=device())
        self.work = dist.all_reduce(self.shared, dist.ReduceOp.MAX, async_op=True)
        self.copied = None
        if self.shared.is_cuda:
            self.work.wait()  # of the GPU's queue, not of this thread
            self.shared = self.shared.to("cpu", non_blocking=True)
            self.copied = torch.cuda.Event()
            self.copied.record()

    def read(self) -> int:
        """The maximum, once all have asked; on a GPU, once it has finished what was queued before."""
        self.copied.synchronize() if self.copied else self.work.wait()
        return int(self.shared)


def told(number: int) -> int:
    """The first process's number, on all processes."""
    if world() == 1:
        return number
    shared = torch.tensor(number, device=device())
    dist.broadcast(shared, 0)
    return int(shared)


def total(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if world() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def gather(local: Tensor, counts: Sequence[int]) -> Tensor:
    """All processes' vectors in rank order; gradients flow only to the local ones.

    Every process computes the joint loss, so the local parts of its gradient add up to the joint gradient.

    Parameters
    ----------
    local
        `[counts[rank], dim]`.
    counts
        The number of vectors on each process.

    Returns
    -------
    `[sum(counts), dim]`.

    Source: github.com/grimalPaul/cvlp, which gathers in this way for the DPR loss.
    """
    if world() == 1:
        return local
    padded = local.new_zeros(max(counts), *local.shape[1:])
    padded[: len(local)] = local.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    parts = [part[:count] for part, count in zip(parts, counts, strict=True)]
    parts[rank()] = local
    return torch.cat(parts)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average over processes the gradients of parameters outside DDP."""
    if world() > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= world()


def wrap(module: nn.Module, unused: bool) -> nn.Module:
    """Wrap `module` in DDP, which averages gradients over processes; unchanged on a single process.

    `unused`: a forward pass may not use all trained parameters, such as per-task adapters.
    """
    if world() == 1 or not any(parameter.requires_grad for parameter in module.parameters()):
        return module
    ids = [torch.cuda.current_device()] if torch.cuda.is_available() else None
    return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=unused)


@contextmanager
def without_sync(module: nn.Module, local: bool) -> Iterator[None]:
    """Keep gradients on this process while `local`; they are synchronised with those of a later pass."""
    if local and isinstance(module, DistributedDataParallel):
        with module.no_sync():
            yield
    else:
        yield
