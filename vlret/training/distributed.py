"""One training on several processes, started by `torchrun`: gloo on a CPU, NCCL on GPUs."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vlret import console


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that `torchrun` names in the environment; alone without it."""
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
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def device() -> torch.device:
    """This process's GPU, or the CPU where there is none."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def say(line: str) -> None:
    """`vlret.console.say` by the first process alone."""
    if rank() == 0:
        console.say(line)


def wait() -> None:
    """Go on when all processes are here."""
    if world() > 1:
        dist.barrier()


def largest(number: int) -> int:
    """The largest of all processes' numbers."""
    if world() == 1:
        return number
    shared = torch.tensor(number, device=device())
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return int(shared)


def total(values: Tensor) -> Tensor:
    """The sum of all processes' values, the same on each."""
    if world() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def gather(local: Tensor, counts: Sequence[int]) -> Tensor:
    """All processes' vectors in the order of their ranks; gradients reach the local ones alone.

    Every process computes the joint loss, so the local parts of its gradient, together, are the joint gradient.

    Parameters
    ----------
    local
        `[counts[rank], dim]`.
    counts
        How many vectors each process has.

    Returns
    -------
    `[sum(counts), dim]`.

    Source: github.com/grimalPaul/cvlp, which gathers for the DPR loss in this way.
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
    """Make the gradients of parameters that DDP does not know the same on all processes."""
    if world() > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= world()


def wrapped(module: nn.Module, unused: bool) -> nn.Module:
    """`module` in DDP, which adds up gradients over processes; the module itself where there is one process.

    `unused` says that a forward may leave some trained parameters out, as a task's own adapters do.
    """
    if world() == 1 or not any(parameter.requires_grad for parameter in module.parameters()):
        return module
    ids = [torch.cuda.current_device()] if torch.cuda.is_available() else None
    return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=unused)


@contextmanager
def without_sync(module: nn.Module, apart: bool) -> Iterator[None]:
    """Gradients stay on this process while `apart`: those of a later forward carry them along."""
    if apart and isinstance(module, DistributedDataParallel):
        with module.no_sync():
            yield
    else:
        yield
