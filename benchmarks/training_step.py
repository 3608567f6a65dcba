"""The speed of a training step relative to cvlp's approach, which pads every text to 512 tokens.

16 questions with a relevant passage and a hard negative each, all with visual features; forward, backward and AdamW on
prepared inputs. By default two layers of t5-base: all twelve need about 50 GB in cvlp's approach, and the ratio depends
little on the depth.
"""

import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from bench import contest, options, ratio
from material import T5_BASE, features, listed, model, passages, side, tokenizer
from reference import EagerT5, eager, inputs
from torch import Tensor, nn

from vlret.encoders.biencoder import BiEncoder
from vlret.encoders.inputs import Side
from vlret.training.losses import dpr_loss

QUESTION_WORDS = 12


class Batch:
    """The questions and passages of a step, with random images."""

    def __init__(self, questions: int, folder: Path):
        self.drawn, random = passages(3 * questions), np.random.default_rng(3)
        self.questions = [" ".join(text.split()[:QUESTION_WORDS]) for text in self.drawn.texts[:questions]]
        self.passages = [self.drawn.texts[row] for row in random.permutation(3 * questions)[: 2 * questions]]
        self.images = random.integers(0, questions, 3 * questions)
        self.store = features(folder, questions)
        self.table = listed(self.store, folder)
        self.labels = torch.arange(questions)

    def grouped(self) -> tuple[dict[str, Tensor], list[dict[str, Tensor]], Tensor]:
        """The inputs of the questions, and of the passages in groups of similar length with their order."""
        size = len(self.questions)

        def of(texts: list[str], images: np.ndarray) -> Side:
            return replace(side(self.drawn, self.store), texts=texts, images=images)

        asked = of(self.questions, self.images[:size]).inputs(range(size))
        return asked, *of(self.passages, self.images[size:]).groups(range(2 * size), size)

    def lengths(self) -> np.ndarray:
        """The number of tokens of each text, questions then passages, `[texts]`."""
        asked, groups, _ = self.grouped()
        return torch.cat([group["attention_mask"].sum(dim=1) for group in (asked, *groups)]).numpy()

    def padded(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The inputs of questions and passages as from cvlp's collator."""
        size, tokens = len(self.questions), tokenizer()
        asked = inputs(self.questions, self.images[:size].tolist(), self.table, tokens, "max_length")
        return asked, inputs(self.passages, self.images[size:].tolist(), self.table, tokens, "max_length")


def our_loss(ours: BiEncoder, batch: Batch) -> Callable[[], Tensor]:
    asked, groups, order = batch.grouped()
    device = next(ours.parameters()).device

    def to_device(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(device) for name, tensor in inputs.items()}

    def loss() -> Tensor:
        vectors = torch.cat([ours.encode("passage", to_device(group)) for group in groups])[order]
        return dpr_loss(ours.encode("question", to_device(asked)), vectors, batch.labels.to(device))

    return loss


def cvlps_loss(reference: EagerT5, batch: Batch) -> Callable[[], Tensor]:
    asked, given = batch.padded()
    return lambda: nn.functional.cross_entropy(reference(**asked) @ reference(**given).T, batch.labels)


def check(ours: BiEncoder, reference: EagerT5, folder: Path) -> None:
    """`AssertionError` unless both have the same loss and gradients, without dropout."""
    batch = Batch(2, folder)
    losses = [our_loss(ours, batch)(), cvlps_loss(reference, batch)()]
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    for loss in losses:
        loss.backward()
    expected = dict(reference.named_parameters())
    for name, parameter in ours.question.encoder.named_parameters():
        # Relative to the gradient's norm, as single values may differ by rounding where a ReLU's input is near 0.
        off = (parameter.grad - expected[name].grad).norm() / expected[name].grad.norm()
        assert off < 1e-3, f"{name}: gradients differ by {off:.1e} of their norm"


def step(network: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=1e-5)

    def run() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def compare(given: Namespace, folder: Path) -> None:
    ours = model(replace(T5_BASE, num_layers=given.layers))
    reference = eager(ours)
    check(ours, reference, folder / "check")
    batch = Batch(given.questions, folder / "batch")
    steps = {"ours": step(ours, our_loss(ours, batch)), "cvlp": step(reference, cvlps_loss(reference, batch))}
    seconds = contest(steps, given)
    rate = {name: given.questions / seconds[name] for name in seconds}
    what = f"a training step of {given.questions} questions with 2 passages, fp32"
    ratio(what, seconds["cvlp"] / seconds["ours"], "cvlp's approach")
    print(f"  ours {rate['ours']:.2f} questions/s, cvlp's {rate['cvlp']:.2f}")


def main():
    given = options(__doc__, rounds=(3, 1), layers=(2, 1), questions=(16, 2))
    print(f"  t5-base with {given.layers} layers, medians of {given.rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        compare(given, Path(folder))


if __name__ == "__main__":
    main()
