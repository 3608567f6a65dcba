"""Which questions, relevant passages and hard negatives stand in a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from vlret.encoders.inputs import Side
from vlret.files import InputError


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
        Its relevant passages, at least one.
    negatives
        Its irrelevant passages by miner, in the miner's order.
    """

    unit: int
    entity: str
    relevant: tuple[int, ...]
    negatives: Mapping[str, Sequence[int]]


class Batches(Dataset):
    """Item `i` is the whole batch of step `i`, a function of the seed and `i` alone, so that training can resume.

    A batch draws distinct entities, one question of each, one of its relevant passages, and its hard negatives from
    the miners by their shares; a miner that has none left for a question leaves its turn to the others. Passages are
    all relevant ones first, then all hard negatives, none of them twice for one question.

    Raises
    ------
    InputError
        If there are fewer entities than questions in a batch.
    """

    def __init__(self, examples: Sequence[Example], questions: Side, passages: Side, settings: Mapping, seed: int):
        self.questions, self.passages, self.settings, self.seed = questions, passages, settings, seed
        self.entities: dict[str, list[Example]] = {}
        for example in examples:
            self.entities.setdefault(example.entity, []).append(example)
        self.names = sorted(self.entities)
        if len(self.names) < settings["batch_size"]:
            raise InputError(
                f"training.batch_size: {settings['batch_size']} questions of distinct entities in a batch, but only "
                f"{len(self.names)} entities have a question with a relevant passage; lower it"
            )

    def __len__(self) -> int:
        return self.settings["steps"] * self.settings["accumulation"]

    def __getitem__(self, step: int) -> dict:
        chosen, relevant, negatives = self.draw(step)
        rows = [*relevant, *negatives]
        excluded = np.array([[row in set(example.relevant) for row in rows] for example in chosen])
        excluded[np.arange(len(chosen)), np.arange(len(chosen))] = False
        groups, order = self.passages.groups(rows, self.settings["batch_size"])
        return {
            "questions": self.questions.inputs([example.unit for example in chosen]),
            "passages": groups,
            "order": order,
            "labels": torch.arange(len(chosen)),
            "excluded": torch.from_numpy(excluded),
        }

    def draw(self, step: int) -> tuple[list[Example], list[int], list[int]]:
        """The questions of a step, the relevant passage of each, and all hard negatives."""
        rng = np.random.default_rng([self.seed, step])
        names = rng.choice(self.names, size=self.settings["batch_size"], replace=False)
        chosen = [self.entities[name][rng.integers(len(self.entities[name]))] for name in names]
        relevant = [int(rng.choice(example.relevant)) for example in chosen]
        negatives = [row for example in chosen for row in self._negatives(example, rng)]
        return chosen, relevant, negatives

    def _negatives(self, example: Example, rng: np.random.Generator) -> list[int]:
        taken: list[int] = []
        shares = self.settings["negatives"]
        for _ in range(self.settings["negatives_per_question"]):
            left = {name: sorted(set(example.negatives[name]) - set(taken)) for name in shares}
            miners = [name for name in shares if left[name]]
            if not miners:
                break
            weights = np.array([shares[name] for name in miners])
            miner = miners[rng.choice(len(miners), p=weights / weights.sum())]
            taken.append(int(rng.choice(left[miner])))
        return taken
