"""In-batch ranking quality of a bi-encoder, for early stopping and choosing the best checkpoint."""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import replace

import torch
from torch import Tensor

from vlret.encoders.inputs import prefetch
from vlret.encoders.tasks import activate
from vlret.files import InputError
from vlret.training import distributed
from vlret.training.batches import Batches, Task
from vlret.training.gradcache import Piece
from vlret.training.learner import Learner
from vlret.training.losses import scores_of
from vlret.training.pieces import pieces_of

SEED = 2**31  # differs from the seeds of all tasks' batches


class Validation:
    """Fixed pools of validation questions, their relevant passages and hard negatives.

    A pool is like a training batch, of the same size or one question per entity if there are fewer.

    Parameters
    ----------
    task
        Named after the training task whose parts of the model are used; its examples are of the validation split.
    pools
        The number of pools, divided among processes.
    """

    def __init__(self, task: Task, pools: int, seed: int, chunk: int | None):
        entities = len({example.entity for example in task.examples})
        size = min(task.settings.batch_size, entities)
        sized = replace(task, settings=task.settings.model_copy(update={"batch_size": size}))
        self.name, self.batches = task.name, Batches(sized, (seed, SEED), chunk=chunk, sampling="entities")
        self.own = range(distributed.rank(), pools, distributed.world())

    @torch.no_grad()
    def mrr(self, learner: Learner, worker: Executor) -> float:
        """The mean reciprocal rank of each question's relevant passage among the passages of its pool."""
        learner.pairs.eval()
        activate(learner.pairs.biencoder, self.name)
        found = torch.zeros(2, dtype=torch.float64, device=learner.device)
        pieces = prefetch(self._pieces(), worker)
        for piece in pieces:
            vectors = [
                learner.pairs(**piece.inputs),
                *(learner.pairs(**next(pieces).inputs) for _ in range(1, piece.of)),
            ]
            questions, passages = (torch.cat(parts) for parts in zip(*vectors, strict=True))
            asked = piece.batch.labels, piece.batch.excluded
            labels, excluded = (part.to(learner.device, non_blocking=True) for part in asked)
            places = ranks(scores_of(questions, passages, excluded=excluded), labels)
            found[0] += (1 / places.double()).sum()
            found[1] += len(places)
        reciprocal, questions = distributed.total(found).tolist()
        return reciprocal / questions

    def _pieces(self) -> Iterator[Piece]:
        for number in self.own:
            yield from pieces_of(self.batches[number], rank=0, world=1, passes=1)


def ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """The rank of each question's label among the passages, from 1: `[questions, passages]` to `[questions]`.

    Ties rank before the label, so that an encoder with constant output gains nothing.
    """
    check_numbers(scores)
    own = scores.gather(1, labels[:, None])
    return (scores >= own).sum(dim=1)


def check_numbers(scores: Tensor) -> None:
    """Raise `InputError` for a score that is not a number, which no rank is worse than."""
    if scores.isnan().any():
        raise InputError(
            "validation: scores are not numbers; set training.precision to bf16, or lower the learning rate"
        )
