"""Which questions, relevant passages and hard negatives stand in a batch, and which task's batch a step takes.

The words are those of the main task. In others a question may be an image or a passage: whatever stands on the first
side of an example.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vlret.encoders.inputs import Side
from vlret.files import InputError
from vlret.settings import Task as TaskSettings


@dataclass(frozen=True)
class Example:
    """A question that can be trained on.

    Attributes
    ----------
    unit
        The question's place on the questions' side.
    entity
        What its image shows; no two questions of a batch share it.
    relevant
        Its relevant passages that a batch draws from, at least one.
    negatives
        Its irrelevant passages by miner, in the miner's order.
    others
        Relevant passages that are not drawn; in a batch they count neither for it nor against it.
    """

    unit: int
    entity: str
    relevant: tuple[int, ...]
    negatives: Mapping[str, Sequence[int]]
    others: tuple[int, ...] = ()


@dataclass(frozen=True)
class Task:
    """Examples and the two sides that they point to.

    Attributes
    ----------
    name
        What the config calls it.
    questions, passages
        The sides of `Example.unit` and of `Example.relevant`.
    examples
        What is drawn from.
    settings
        What the config says of it, the training's filled in (`vlret.settings.Training.of_task`).
    """

    name: str
    questions: Side
    passages: Side
    examples: list[Example]
    settings: TaskSettings


@dataclass(frozen=True)
class Batch:
    """The joint batch of all processes, in pieces that are encoded one at a time.

    Attributes
    ----------
    task
        Whose batch it is.
    units, rows
        The questions, and the passages: a piece's relevant ones, its hard negatives, then those of the next piece.
    spans, passage_spans
        The questions and the passages of each piece, as many pieces for one process as for another, in their order.
    labels
        `[questions]`, the place of each question's relevant passage.
    excluded
        `[questions, passages]`, True where a passage is relevant to a question without being its label.
    """

    task: Task
    units: list[int]
    rows: list[int]
    spans: list[range]
    passage_spans: list[range]
    labels: Tensor
    excluded: Tensor

    def inputs(self, piece: int) -> dict:
        """What the encoders take of a piece: `questions`, `passages` in groups of like length, and their `order`."""
        span, passages = self.spans[piece], self.passage_spans[piece]
        groups, order = self.task.passages.groups([self.rows[place] for place in passages], len(span))
        questions = self.task.questions.inputs([self.units[place] for place in span])
        return {"questions": questions, "passages": groups, "order": order}

    @staticmethod
    def counts(spans: Sequence[range], world: int) -> list[int]:
        """How many places of `spans` each of `world` processes has."""
        share = len(spans) // world
        return [sum(map(len, spans[rank * share : (rank + 1) * share])) for rank in range(world)]


class Batches:
    """Item `i` is a task's batch number `i`, a function of the seed and `i` alone, so that training can resume.

    A batch draws distinct entities, one question of each, one of its relevant passages, and its hard negatives from
    the miners by their shares; a miner that has none left for a question leaves its turn to the others. No passage
    stands twice for one question.

    Parameters
    ----------
    seed
        Two numbers: the experiment's, and one that keeps a task's draws apart from another's.
    world
        Processes that share a batch evenly.
    chunk
        Questions a piece; None for all of a process.

    Raises
    ------
    InputError
        If there are fewer entities than questions in a batch, or processes do not divide it.
    """

    def __init__(self, task: Task, seed: tuple[int, int], world: int = 1, chunk: int | None = None):
        self.task, self.seed, self.size = task, seed, task.settings.batch_size
        self.entities: dict[str, list[Example]] = {}
        for example in task.examples:
            self.entities.setdefault(example.entity, []).append(example)
        self.names = sorted(self.entities)
        if len(self.names) < self.size:
            raise InputError(
                f"training.batch_size: {self.size} questions of distinct entities in a batch, but only "
                f"{len(self.names)} entities have a question with a relevant passage (task {task.name}); lower it"
            )
        if self.size % world:
            raise InputError(
                f"training.batch_size: {self.size} questions do not go evenly into {world} processes (task {task.name})"
            )
        share = self.size // world
        starts = [first + at for first in range(0, self.size, share) for at in range(0, share, chunk or share)]
        self.spans = [range(start, stop) for start, stop in zip(starts, [*starts[1:], self.size], strict=True)]

    def __getitem__(self, number: int) -> Batch:
        chosen, relevant, negatives = self.draw(number)
        rows, passage_spans, labels = [], [], []
        for span in self.spans:
            labels += range(len(rows), len(rows) + len(span))
            own = [*(relevant[place] for place in span), *(row for place in span for row in negatives[place])]
            passage_spans.append(range(len(rows), len(rows) + len(own)))
            rows += own
        excluded = np.stack([np.isin(rows, [*example.relevant, *example.others]) for example in chosen])
        excluded[np.arange(len(chosen)), labels] = False
        return Batch(
            task=self.task,
            units=[example.unit for example in chosen],
            rows=rows,
            spans=self.spans,
            passage_spans=passage_spans,
            labels=torch.tensor(labels),
            excluded=torch.from_numpy(excluded),
        )

    def draw(self, number: int) -> tuple[list[Example], list[int], list[list[int]]]:
        """The questions of a batch, the relevant passage of each, and the hard negatives of each."""
        rng = np.random.default_rng([self.seed[0], number, self.seed[1]])
        names = rng.choice(self.names, size=self.size, replace=False)
        chosen = [self.entities[name][rng.integers(len(self.entities[name]))] for name in names]
        relevant = [int(rng.choice(example.relevant)) for example in chosen]
        return chosen, relevant, [self._negatives(example, rng) for example in chosen]

    def _negatives(self, example: Example, rng: np.random.Generator) -> list[int]:
        taken: list[int] = []
        shares = self.task.settings.negatives
        for _ in range(self.task.settings.negatives_per_question):
            left = {name: sorted(set(example.negatives.get(name, ())) - set(taken)) for name in shares}
            miners = [name for name in shares if left[name]]
            if not miners:
                break
            weights = np.array([shares[name] for name in miners])
            miner = miners[rng.choice(len(miners), p=weights / weights.sum())]
            taken.append(int(rng.choice(left[miner])))
        return taken


class Mixture:
    """The task of each step: in turn, or each as often as it has examples, in a seeded order.

    `balanced`: in an epoch a task takes as many steps as see its examples once, times its `weight`, and the steps of
    all tasks are shuffled anew for every epoch.

    Parameters
    ----------
    tasks
        At least one.
    mixing
        `round-robin` or `balanced`.
    accumulation
        Batches a step, all of one task.

    Source: github.com/ylsung/VL_adapter, whose multitask loader knows the same two.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        mixing: str,
        accumulation: int,
        seed: int,
        world: int = 1,
        chunk: int | None = None,
    ):
        self.tasks, self.mixing, self.accumulation, self.seed = list(tasks), mixing, accumulation, seed
        self.batches = [Batches(task, (seed, number), world, chunk) for number, task in enumerate(tasks)]
        seen = [task.settings.batch_size * accumulation for task in tasks]
        shares = [task.settings.weight * len(task.examples) for task in tasks]
        self.epoch = [max(1, round(share / questions)) for share, questions in zip(shares, seen, strict=True)]
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def place(self, step: int) -> tuple[int, int]:
        """The number of the step's task, and how many steps that task had before."""
        if self.mixing == "round-robin":
            return step % len(self.tasks), step // len(self.tasks)
        epoch, at = divmod(step, sum(self.epoch))
        order = self._order(epoch)
        task = int(order[at])
        return task, epoch * self.epoch[task] + int((order[:at] == task).sum())

    def step(self, step: int) -> list[Batch]:
        """The batches whose gradients a step adds up."""
        task, before = self.place(step)
        first = before * self.accumulation
        return [self.batches[task][number] for number in range(first, first + self.accumulation)]

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch, 0, 1]).permutation(
            np.repeat(np.arange(len(self.tasks)), self.epoch)
        )
