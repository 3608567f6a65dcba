"""A tiny encoder, and tasks of random texts and images, for gradients in float64."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vlret.encoders.inputs import Side
from vlret.settings import Training
from vlret.training.batches import Example, Mixture, Task
from vlret.training.learner import Learner
from vlret.training.pieces import pieces

UNITS = 40
SEED = 5


class Read(dict):
    """A transformers tokenizer's output for texts of given ids: truncated to `most`, and the overflow."""

    def __init__(self, ids, most=10**9):
        super().__init__(input_ids=[each[:most] for each in ids])
        self.encodings = [SimpleNamespace(overflowing=each[most:]) for each in ids]


class Letters:
    """A tokenizer that gives each text as many ids as it has letters."""

    pad_token_id, model_max_length = 0, 10**9

    def __call__(self, texts, **_):
        return Read([[ord(letter) % 50 for letter in text] for text in texts])


class Images:
    """Random features of three regions."""

    regions, dim = 3, 4

    def __init__(self):
        self.features = np.random.default_rng(0).random((UNITS, 3, 4), dtype=np.float32)
        self.counts = np.full(UNITS, 3)

    def read(self, rows):
        return self.features[rows], np.zeros((len(rows), 3, 4), np.float32)


class Layer(nn.Module):
    """Dropout and a projection, recomputed in the backward pass if checkpointing."""

    def __init__(self, dim, dropout):
        super().__init__()
        self.linear, self.dropout, self.checkpointing = nn.Linear(dim, dim), nn.Dropout(dropout), False

    def forward(self, hidden):
        if self.checkpointing and self.training:
            return checkpoint(self.change, hidden, use_reentrant=False)
        return self.change(hidden)

    def change(self, hidden):
        return hidden + torch.tanh(self.linear(self.dropout(hidden)))


class Encoder(nn.Module):
    """Mean embeddings; one projection per side; an image part that texts without images skip."""

    def part_of(self, name):
        return "encoder"

    def __init__(self, dim=8, dropout=0.0, layers=1):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.visual = nn.Embedding(50, dim), nn.Linear(4, dim)
        self.layers = nn.ModuleList(Layer(dim, dropout) for _ in range(layers))
        self.sides = nn.ModuleDict({side: nn.Linear(dim, dim) for side in ("question", "passage")})
        self.dropout = nn.Dropout(dropout)

    def encode(self, side, inputs):
        hidden = self.words(inputs["input_ids"])
        for layer in self.layers:
            hidden = layer(hidden)
        mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        if "features" in inputs:
            seen = inputs["visual_mask"].unsqueeze(-1).to(mean.dtype)
            mean = mean + (self.visual(inputs["features"].to(mean.dtype)) * seen).mean(1)
        return self.sides[side](self.dropout(mean))


def sides():
    random = np.random.default_rng(1)
    texts = ["".join(random.choice(list("abcdefghij"), random.integers(2, 9))) for _ in range(UNITS)]
    seen = Side(texts, np.arange(UNITS) % 7 - 1, Images(), Letters(), 16)
    return seen, Side(texts, None, None, Letters(), 16)


def settings(kinds=("viquae",), **changes):
    """Training settings."""
    values = {
        "steps": 20,
        "batch_size": 8,
        "negatives_per_question": 2,
        "negatives": {"random": 1.0},
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "weight_decay": 0.1,
        "loss": {"name": "dpr", "temperature": 0.5, "learned": True},
        "tasks": {kind: {"kind": kind} for kind in kinds},
        **changes,
    }
    return Training.model_validate(values)


def tasks(chosen):
    """A task of texts with images for `viquae`, of only texts for other kinds; some lack hard negatives."""
    seen, unseen = sides()
    examples = [
        Example(
            unit, f"e{unit}", (unit, (unit + 20) % UNITS), {"random": [(unit + k) % UNITS for k in range(1, unit % 4)]}
        )
        for unit in range(20)
    ]
    return [
        Task(
            name,
            seen if name == "viquae" else unseen,
            seen if name == "viquae" else unseen,
            examples,
            chosen.of_task(name),
        )
        for name in chosen.tasks
    ]


def learner(chosen, dropout=0.0, dtype=torch.float64, **sizes):
    made = Learner(Encoder(dropout=dropout, **sizes).to(dtype), tasks(chosen), chosen, SEED)
    made.objectives.to(dtype)
    return made


def stream(chosen, rank=0, world=1, steps=None):
    mixture = Mixture(tasks(chosen), chosen.mixing, chosen.accumulation, SEED, world, chosen.chunk)
    return mixture, pieces(mixture, range(steps or chosen.steps), rank, world)


def gradients(model):
    """The gradients of all trained parameters, zero if there is none."""
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.trained.items()}
