"""The stream of batch pieces to encode."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from vlret.training.batches import Batch, Mixture


@dataclass(frozen=True)
class Piece:
    """The part of a batch that is encoded at a time: some questions with their passages.

    Attributes
    ----------
    batch
        The joint batch of all processes.
    inputs
        The keyword arguments of `vlret.training.learner.Pairs`.
    number
        Its index among the batch's pieces.
    of
        The number of the batch's pieces on this process.
    """

    batch: Batch
    inputs: dict
    number: int
    of: int


def pieces(mixture: Mixture, steps: range, rank: int, world: int) -> Iterator[Piece]:
    """This process's pieces of every batch of `steps`, in two passes for a batch with several."""
    for step in steps:
        for batch in mixture.step(step):
            yield from pieces_of(batch, rank, world, passes=2)


def pieces_of(batch: Batch, rank: int, world: int, passes: int) -> Iterator[Piece]:
    """This process's pieces of a batch, lazily; a single piece needs only one pass."""
    share = len(batch.spans) // world
    batch = replace(batch, labels=pinned(batch.labels), excluded=pinned(batch.excluded))
    for _ in range(1 if share == 1 else passes):
        for number in range(rank * share, (rank + 1) * share):
            yield Piece(batch, pinned(batch.inputs(number)), number, share)


def pinned(inputs: object) -> object:
    """Tensors in mappings and lists in page-locked memory, from which a GPU copies while this process goes on.

    Unchanged without a GPU.
    """
    if not torch.cuda.is_available():
        return inputs
    if isinstance(inputs, Mapping):
        return {name: pinned(part) for name, part in inputs.items()}
    return [pinned(part) for part in inputs] if isinstance(inputs, list) else inputs.pin_memory()


def seed_of(*numbers: int) -> int:
    """A seed from several numbers, such as experiment, step, batch and piece."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
