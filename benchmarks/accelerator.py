"""GPU speed in bf16 with t5-base's sizes and 36 regions: passages/s encoded and questions/s trained on, and their MFU.

Encoding is vlret's whole path, from texts and a feature store to vectors, against a bare loop over the same batches,
prepared beforehand, and text alone against `sentence-transformers` with weights in bf16; ours has fp32 weights and
autocast. A training step is `Learner.step` with its stream
of batches, against a bare loop with autocast over one prepared batch, without clipping.

MFU, model FLOP utilisation, is the FLOP that the architecture needs per second, in relation to the datasheet's peak (of
dense products; Chowdhery et al. 2022, "PaLM", appendix B); it is also given in relation to one large product on the
same device. FLOP are those of products, two per multiplication and addition, for unpadded positions; with n tokens and
36 regions, p = n + 36 positions, L layers, widths d (model), f (feed-forward), a (attention) and v (features):

    passage = L · (2 · (4 · d · a + 2 · d · f) · p + 4 · a · p²) + 2 · (v + 5) · d · 36
    step = 3 · (the passages' and questions' sum), since the backward pass has two products for each one

Gradient checkpointing would add to the time but not to the FLOP. On a CPU only the smallest sizes run.
"""

import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from bench import contest, options, ratio
from material import FEATURE_DIM, REGIONS, T5_BASE, Passages, features, model, passages, side
from training_step import Batch, our_loss, step

from vlret.encoders.biencoder import BiEncoder
from vlret.encoders.inputs import Side, prefetch
from vlret.encoders.t5 import T5Config
from vlret.retrieval.encode import encode, prepared
from vlret.settings import Training
from vlret.training.batches import Example, Mixture, Task
from vlret.training.learner import Learner
from vlret.training.pieces import pieces

# FLOP/s of dense bf16 products by part of the device's name, the first that occurs. NVIDIA's datasheets; those of the
# H100 and H200 state twice as many, with sparsity.
PEAKS = {
    "H200": 989e12,  # H200 SXM
    "H100 PCIe": 756e12,
    "H100": 989e12,  # H100 SXM, "NVIDIA H100 80GB HBM3"
    "A100": 312e12,
}


def operations(config: T5Config, tokens: np.ndarray) -> float:
    """The FLOP to encode texts of `tokens` `[texts]` tokens with an image each; see above."""
    inner, positions = config.num_heads * config.d_kv, tokens.astype(np.float64) + REGIONS
    linear = 2 * (4 * config.d_model * inner + 2 * config.d_model * config.d_ff) * positions
    visual = 2 * (FEATURE_DIM + 5) * config.d_model * REGIONS
    return float((config.num_layers * (linear + 4 * inner * positions**2) + visual).sum())


class Device:
    """A device, its name, and the FLOP/s of its datasheet (None if unknown) and of one bf16 product of a size."""

    def __init__(self, device: torch.device, size: int, given: Namespace):
        self.device, self.given = device, given
        self.name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        self.peak = next((PEAKS[kind] for kind in PEAKS if kind in self.name), None)
        left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
        self.product = 2 * size**3 / self.times({"product": lambda: left @ right})["product"]
        print(f"  {self.name}, bf16; a product of {size} reaches {self.product / 1e12:.3g} TFLOP/s")

    def times(self, contestants: dict[str, Callable[[], object]]) -> dict[str, float]:
        """Median seconds of each in turn, after one run that is not counted."""
        synced = {name: lambda run=run: (run(), self.wait()) for name, run in contestants.items()}
        for run in synced.values():
            run()
        return contest(synced, self.given)

    def lowered(self, run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """The same in bf16 by autocast."""

        def run_lowered() -> torch.Tensor:
            with torch.autocast(self.device.type, torch.bfloat16):
                return run()

        return run_lowered

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def report(self, what: str, units: int, seconds: float, needed: float) -> None:
        """Print the rate of `what`, and the utilisation by `needed` FLOP in these seconds."""
        rate = needed / seconds
        mfu = f"MFU {rate / self.peak:.1%} of {self.peak / 1e12:.0f} TFLOP/s" if self.peak else "no known peak"
        share = f"{rate / self.product:.1%} of the product's"
        print(f"  {what}: {units / seconds:.1f}/s, {rate / 1e12:.3g} TFLOP/s, {mfu}, {share}", flush=True)


def vectors(ours: BiEncoder, of: Side, batch_size: int) -> np.ndarray:
    """The whole path of encoding, as `vlret retrieval embed` takes it."""
    return encode(ours, of, batch_size, "passage", "bf16")


@torch.inference_mode()
def bare(ours: BiEncoder, batches: list[dict[str, torch.Tensor]], device: torch.device) -> list[torch.Tensor]:
    """Only copies and the encoder."""
    ours.eval()
    return [
        ours.encode("passage", {name: tensor.to(device) for name, tensor in batch.items()}).float().cpu()
        for batch in batches
    ]


def encoding(on: Device, config: T5Config, drawn: Passages, folder: Path) -> None:
    size, ours = on.given.batch_size, model(config).to(on.device)
    of = side(drawn, features(folder, drawn.articles.max() + 1))
    tokens = np.array([len(ids) for ids in of.tokens(range(len(of)))])
    batches = [inputs for _, inputs in of.batches(range(len(of)), size)]
    rounded = prepared(deepcopy(ours), "bf16", on.device)
    bare_loop = on.lowered(lambda: bare(ours, batches, on.device))
    seconds = on.times({"ours": lambda: vectors(rounded, of, size), "bare": bare_loop})
    for name, value in seconds.items():
        on.report(f"passages with {REGIONS} regions encoded, {name}", len(of), value, operations(config, tokens))
    ratio("passages with regions encoded, bf16", seconds["bare"] / seconds["ours"], "a bare loop over its batches")


def against_sentence_transformers(on: Device, config: T5Config, drawn: Passages, folder: Path) -> None:
    try:
        # Here, as environments for clusters do without it.
        import sentence_transformers
        from encoding import published
    except ImportError as error:
        print(f"  sentence-transformers: skipped ({error})")
        return
    size, ours = on.given.batch_size, model(config, visual=False).to(on.device)
    of, theirs = side(drawn, None), published(ours.cpu(), config, folder).to(on.device, torch.bfloat16)
    ours = prepared(ours, "bf16", on.device)
    seconds = on.times(
        {
            "ours": lambda: vectors(ours, of, size),
            "theirs": lambda: theirs.encode(of.texts, batch_size=size, device=str(on.device)),
        }
    )
    peer = f"sentence-transformers {sentence_transformers.__version__} in batches of {size}"
    ratio("passages of text encoded, bf16", seconds["theirs"] / seconds["ours"], peer)


def learner(ours: BiEncoder, batch: Batch) -> tuple[Learner, Iterator]:
    """A learner with one task, whose batches are the questions of `batch` in ever new orders, and their stream."""
    size = len(batch.questions)
    training = Training(steps=10**6, batch_size=size, precision="bf16", learning_rate=1e-5)
    sides = [
        Side(texts, images, batch.store, side(batch.drawn, None).tokenizer, 512)
        for texts, images in ((batch.questions, batch.images[:size]), (batch.passages, batch.images[size:]))
    ]
    examples = [Example(row, str(row), (row,), {"bm25": (size + row,)}) for row in range(size)]
    tasks = [Task("viquae", *sides, examples, training.of_task("viquae"))]
    stream = pieces(Mixture(tasks, training.mixing, training.accumulation, 0), range(training.steps), 0, 1)
    return Learner(ours, tasks, training, 0), prefetch(stream)


def training(on: Device, config: T5Config, folder: Path) -> None:
    given, batch = on.given, Batch(on.given.questions, folder)
    first = model(config).to(on.device)
    second = deepcopy(first)
    (ours, stream), numbers = learner(first, batch), count()
    bare_step = step(second, on.lowered(our_loss(second, batch)))
    contestants = {
        "ours": lambda: [ours.step(next(numbers), 0, stream) for _ in range(given.steps)],
        "bare": lambda: [bare_step() for _ in range(given.steps)],
    }
    seconds = on.times(contestants)
    stream.close()
    questions, needed = given.questions * given.steps, 3 * given.steps * operations(config, batch.lengths())
    for name, value in seconds.items():
        on.report(f"questions with 2 passages trained on, {name}", questions, value, needed)
    what = f"a training step of {given.questions} questions with 2 passages, bf16"
    ratio(what, seconds["bare"] / seconds["ours"], "a bare loop with autocast")


def main():
    sizes = {"passages": (20_000, 16), "batch_size": (256, 8), "questions": (128, 2), "steps": (10, 1)}
    given = options(__doc__, **sizes, layers=(12, 1), rounds=(3, 1))
    if not torch.cuda.is_available() and not given.small:
        print("  skipped, as torch sees no CUDA device; on a CPU only --small runs")
        return
    on = Device(torch.device("cuda" if torch.cuda.is_available() else "cpu"), 512 if given.small else 8192, given)
    config, drawn = replace(T5_BASE, num_layers=given.layers), passages(given.passages)
    with tempfile.TemporaryDirectory() as folder:
        encoding(on, config, drawn, Path(folder))
        against_sentence_transformers(on, config, drawn, Path(folder) / "published")
        training(on, config, Path(folder) / "batch")


if __name__ == "__main__":
    main()
