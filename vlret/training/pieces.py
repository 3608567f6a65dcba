"""The stream of what is encoded."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vlret.training.batches import Batch, Mixture


@dataclass(frozen=True)
class Piece:
    """What is encoded at a time: questions of a batch with their passages.

    Attributes
    ----------
    batch
        The joint batch of all processes.
    inputs
        What the pairs' encoder takes.
    number
        Its place among the batch's pieces.
    of
        How many pieces of the batch this process encodes.
    """

    batch: Batch
    inputs: dict
    number: int
    of: int


def pieces(mixture: Mixture, steps: range, rank: int, world: int) -> Iterator[Piece]:
    """This process's pieces of every batch of `steps`; twice, pass after pass, where a batch has several."""
    for step in steps:
        for batch in mixture.step(step):
            yield from pieces_of(batch, rank, world, passes=2)


def pieces_of(batch: Batch, rank: int, world: int, passes: int) -> Iterator[Piece]:
    """This process's pieces of a batch, each made when it is asked for; one alone needs a single pass."""
    share = len(batch.spans) // world
    for _ in range(1 if share == 1 else passes):
        for number in range(rank * share, (rank + 1) * share):
            yield Piece(batch, batch.inputs(number), number, share)


def seed_of(*numbers: int) -> int:
    """One seed of several numbers, such as experiment, step, batch and piece."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
