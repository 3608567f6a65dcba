"""Validation by retrieval: all validation questions against one pool of passages."""

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
import torch
from torch import Tensor

from vlret.encoders.inputs import Side, prefetch
from vlret.encoders.tasks import activate
from vlret.files import InputError
from vlret.training import distributed
from vlret.training.batches import Example, Task
from vlret.training.learner import Learner
from vlret.training.losses import scores_of
from vlret.training.validate import SEED, check_numbers

DEPTH = 100  # ranks beyond it count as not found
BLOCK = 256  # questions scored at a time


class PoolValidation:
    """A fixed pool of passages: those relevant to any validation question, then mined negatives, then random ones.

    Parameters
    ----------
    task
        As for `vlret.training.validate.Validation`.
    size
        Passages in the pool; all passages if there are fewer.
    seed
        Draws the random ones.
    batch
        Questions or passages encoded at a time.

    Raises
    ------
    InputError
        If the pool has no place for the relevant passages.
    """

    def __init__(self, task: Task, size: int, seed: int, batch: int):
        self.name, self.questions, self.passages, self.batch = task.name, task.questions, task.passages, batch
        self.units = np.array([example.unit for example in task.examples])
        self.rows = pool_of(task.examples, len(task.passages), size, seed)
        relevant = [np.array([*example.relevant, *example.others]) for example in task.examples]
        self.relevant = [np.searchsorted(self.rows, rows) for rows in relevant]

    @torch.no_grad()
    def mrr(self, learner: Learner, worker: Executor) -> float:
        """The MRR@100 of each question's first relevant passage in the pool, by exact search."""
        learner.pairs.eval()
        activate(learner.pairs.biencoder, self.name)
        rank, world = distributed.rank(), distributed.world()
        shares = np.array_split(self.rows, world)
        passages = self._vectors("passage", self.passages, shares[rank], learner, worker)
        passages = distributed.gather(passages, list(map(len, shares)))
        own = np.arange(len(self.units))[rank::world]
        questions = self._vectors("question", self.questions, self.units[own], learner, worker)
        found = torch.zeros((), dtype=torch.float64, device=learner.device)
        for start in range(0, len(own), BLOCK):
            relevant = torch.zeros(min(BLOCK, len(own) - start), len(self.rows), dtype=torch.bool)
            for place, question in enumerate(own[start : start + BLOCK]):
                relevant[place, self.relevant[question]] = True
            scores = scores_of(questions[start : start + BLOCK], passages)
            places = first_ranks(scores, relevant.to(learner.device)).double()
            found += torch.where(places <= DEPTH, 1 / places, 0.0).sum()
        return distributed.total(found).item() / len(self.units)

    def _vectors(self, name: str, side: Side, units: np.ndarray, learner: Learner, worker: Executor) -> Tensor:
        """The vectors of some units of a side, in their order: `[units, dim]`."""
        places, parts = [], []
        for batch, inputs in prefetch(side.batches(units, self.batch), worker):
            places.append(batch)
            parts.append(learner.pairs.vectors(name, inputs))
        return torch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(places))).to(learner.device)]


def pool_of(examples: Sequence[Example], passages: int, size: int, seed: int) -> np.ndarray:
    """The rows of a pool of `size` of the `passages`, ascending: the relevant, the best of the mined, random ones."""
    relevant = np.unique([row for example in examples for row in (*example.relevant, *example.others)])
    if len(relevant) > size:
        raise InputError(
            f"training.validation_pool: {size} passages have no place for the {len(relevant)} relevant to validation "
            f"questions; set it to {len(relevant)} or more, or to 0"
        )
    mined = [(place, row) for each in examples for rows in each.negatives.values() for place, row in enumerate(rows)]
    best = [row for _, row in sorted(mined)]
    drawn = np.random.default_rng([seed, SEED]).choice(passages, min(size, passages), replace=False)
    ordered = np.concatenate([relevant, best, drawn]).astype(np.int64)
    _, first = np.unique(ordered, return_index=True)
    return np.sort(ordered[np.sort(first)[:size]])


def first_ranks(scores: Tensor, relevant: Tensor) -> Tensor:
    """The rank of each question's first relevant passage, from 1: `[questions, passages]` twice to `[questions]`.

    Irrelevant passages of the same score rank before it, so that an encoder with constant output gains nothing.
    """
    check_numbers(scores)
    best = scores.masked_fill(~relevant, -torch.inf).amax(dim=1, keepdim=True)
    return 1 + ((scores >= best) & ~relevant).sum(dim=1)
