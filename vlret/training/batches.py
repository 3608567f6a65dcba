"""Sample batches of questions, relevant passages and hard negatives, and choose each step's task.

The terms are those of the main task. In others a "question" may be an image or a passage: the first side of an example.
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
from vlret.training.epochs import Epochs


@dataclass(frozen=True, slots=True)
class Example:
    """A question to train on.

    Attributes
    ----------
    unit
        The question's index in the question side.
    entity
        The entity in its image; no two questions of a batch share it.
    relevant
        The relevant passages that batches draw from, at least one.
    negatives
        Irrelevant passages by miner, in the miner's order.
    others
        Relevant passages that are not drawn; excluded from the loss if they are in a batch.
    """

    unit: int
    entity: str
    relevant: Sequence[int]
    negatives: Mapping[str, Sequence[int]]
    others: Sequence[int] = ()


@dataclass(frozen=True)
class Task:
    """Examples and the two sides that they refer to.

    Attributes
    ----------
    name
        Its name in the config.
    questions, passages
        The sides of `Example.unit` and of `Example.relevant`.
    examples
        The examples to draw from.
    settings
        Its config entry, completed by the training's (`vlret.settings.Training.of_task`).
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
        The task it belongs to.
    units, rows
        The questions, and the passages: each piece's relevant ones, then its hard negatives.
    spans, passage_spans
        The questions and passages of each piece, in order; every process has equally many pieces.
    labels
        `[questions]`, the index of each question's relevant passage.
    excluded
        `[questions, passages]`, True where a passage is relevant to a question but not its label.
    """

    task: Task
    units: list[int]
    rows: list[int]
    spans: list[range]
    passage_spans: list[range]
    labels: Tensor
    excluded: Tensor

    def inputs(self, piece: int) -> dict:
        """The encoders' inputs for a piece: `questions`, `passages` in groups of similar length, and their `order`."""
        span, passages = self.spans[piece], self.passage_spans[piece]
        groups, order = self.task.passages.groups([self.rows[place] for place in passages], len(span))
        questions = self.task.questions.inputs([self.units[place] for place in span])
        return {"questions": questions, "passages": groups, "order": order}

    @staticmethod
    def counts(spans: Sequence[range], world: int) -> list[int]:
        """The number of items of `spans` on each of `world` processes."""
        share = len(spans) // world
        return [sum(map(len, spans[rank * share : (rank + 1) * share])) for rank in range(world)]


class Batches:
    """The batches of a task; each depends only on the seed and its index, so that training can resume.

    A batch has questions of distinct entities; it samples one of each question's relevant passages, and distinct hard
    negatives from the miners by their shares; a miner with none left for a question is skipped.

    Parameters
    ----------
    seed
        The experiment's seed, and a number that distinguishes the task.
    world
        The number of processes that share a batch evenly.
    chunk
        Questions per piece; None for all of a process.
    sampling
        `epochs`: every question once per epoch (`vlret.training.epochs`). `entities`: each batch samples entities, then
        one question of each.

    Raises
    ------
    InputError
        If there are fewer entities than questions in a batch, or processes do not divide it.
    """

    def __init__(
        self,
        task: Task,
        seed: tuple[int, int],
        world: int = 1,
        chunk: int | None = None,
        sampling: str = "epochs",
    ):
        self.task, self.seed, self.size = task, seed, task.settings.batch_size
        self.entities: dict[str, list[Example]] = {}
        for example in task.examples:
            self.entities.setdefault(example.entity, []).append(example)
        self.names = sorted(self.entities)
        if len(self.names) < self.size:
            raise InputError(
                f"training.batch_size: {self.size} questions need distinct entities, but only "
                f"{len(self.names)} entities have a question with a relevant passage (task {task.name}); lower it"
            )
        if self.size % world:
            raise InputError(
                f"training.batch_size: {self.size} questions cannot be split evenly into {world} processes "
                f"(task {task.name})"
            )
        self.epochs = None
        if sampling == "epochs":
            self.epochs = Epochs([len(self.entities[name]) for name in self.names], self.size, seed)
            self.examples = [example for name in self.names for example in self.entities[name]]
        share = self.size // world
        starts = [first + at for first in range(0, self.size, share) for at in range(0, share, chunk or share)]
        self.spans = [range(start, stop) for start, stop in zip(starts, [*starts[1:], self.size], strict=True)]

    @property
    def epoch(self) -> float:
        """Batches per epoch; by `entities`, those with as many questions as the task has."""
        return self.epochs.batches if self.epochs else len(self.task.examples) / self.size

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
        """The questions of a batch, and the relevant passage and hard negatives of each."""
        rng = np.random.default_rng([self.seed[0], number, self.seed[1]])
        if self.epochs:
            chosen = [self.examples[place] for place in self.epochs.batch(number)]
        else:
            names = rng.choice(self.names, size=self.size, replace=False)
            chosen = [self.entities[name][rng.integers(len(self.entities[name]))] for name in names]
        relevant = [example.relevant[rng.integers(len(example.relevant))] for example in chosen]
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
    """Chooses the task of each step: in turn, or in proportion to the number of examples.

    `balanced`: in an epoch, a task takes as many steps as its own epoch has, times its `weight`; the steps of all tasks
    are shuffled with a new seed every epoch.

    Parameters
    ----------
    tasks
        At least one.
    mixing
        `round-robin` or `balanced`.
    accumulation
        Batches per step, all of one task.
    sampling
        As for `Batches`.

    Source: github.com/ylsung/VL_adapter, whose multitask loader has both modes.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        mixing: str,
        accumulation: int,
        seed: int,
        world: int = 1,
        chunk: int | None = None,
        sampling: str = "epochs",
    ):
        self.tasks, self.mixing, self.accumulation, self.seed = list(tasks), mixing, accumulation, seed
        self.batches = [Batches(task, (seed, number), world, chunk, sampling) for number, task in enumerate(tasks)]
        epochs = [
            task.settings.weight * own.epoch / accumulation for task, own in zip(tasks, self.batches, strict=True)
        ]
        self.epoch = [max(1, round(steps)) for steps in epochs]
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def place(self, step: int) -> tuple[int, int]:
        """The index of the step's task, and the number of that task's earlier steps."""
        if self.mixing == "round-robin":
            return step % len(self.tasks), step // len(self.tasks)
        epoch, at = divmod(step, sum(self.epoch))
        order = self._order(epoch)
        task = int(order[at])
        return task, epoch * self.epoch[task] + int((order[:at] == task).sum())

    def step(self, step: int) -> list[Batch]:
        """The batches whose gradients a step accumulates."""
        task, before = self.place(step)
        first = before * self.accumulation
        return [self.batches[task][number] for number in range(first, first + self.accumulation)]

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch, 0, 1]).permutation(
            np.repeat(np.arange(len(self.tasks)), self.epoch)
        )
