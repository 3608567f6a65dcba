"""GPU speed and utilisation in bf16: passages/s encoded and questions/s trained on with t5-base's sizes.

Utilisation counts the operations of unpadded positions, three times in training, relative to the speed of one large
bf16 product on the same GPU and, if known, to the datasheet's peak.
"""

import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from material import FEATURE_DIM, REGIONS, T5_BASE, features, model, options, passages, side
from training_step import Batch, our_loss, step

from vlret.encoders.t5 import T5Config
from vlret.retrieval.encode import encode

BATCH = 256
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # dense bf16 from NVIDIA's datasheets, SXM


def operations(config: T5Config, tokens: np.ndarray) -> float:
    """The floating-point operations to encode texts of `tokens` `[texts]` tokens with an image each."""
    inner, positions = config.num_heads * config.d_kv, tokens.astype(np.float64) + REGIONS
    linear = 2 * (4 * config.d_model * inner + 2 * config.d_model * config.d_ff) * positions
    visual = 2 * (FEATURE_DIM + 5) * config.d_model * REGIONS
    return float((config.num_layers * (linear + 4 * inner * positions**2) + visual).sum())


def seconds(run: Callable[[], object], rounds: int, device: torch.device) -> float:
    """The median of `rounds` rounds after a warm-up."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def product_rate(device: torch.device, size: int = 8192) -> float:
    """Operations per second of a square bf16 product."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds(lambda: left @ right, 20, device)


def report(what: str, rate: float, needed: float, product: float, peak: float | None) -> None:
    shares = f"{needed / product:.0%} of the product's" + (f", {needed / peak:.0%} of peak" if peak else "")
    print(f"{what}: {rate:.0f}/s, {needed / 1e12:.1f} TFLOP/s, {shares}")


def measure(given: Namespace, device: torch.device, folder: Path, size: int = 8192) -> None:
    config, name = replace(T5_BASE, num_layers=given.layers), str(device)
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    peak, product = next((PEAKS[kind] for kind in PEAKS if kind in name), None), product_rate(device, size)
    print(f"{name}, bf16, t5-base with {given.layers} layers; a product of {size} reaches {product / 1e12:.0f} TFLOP/s")
    drawn, ours = passages(given.passages), model(config).to(device)
    of = side(drawn, features(folder, drawn.articles.max() + 1))
    tokens = np.array([len(ids) for ids in of.tokens(range(len(of)))])
    with torch.autocast(device.type, torch.bfloat16):
        taken = seconds(lambda: encode(ours, of, BATCH, "passage"), given.rounds, device)
    report("passages encoded", len(of) / taken, operations(config, tokens) / taken, product, peak)
    batch = Batch(given.questions, folder / "batch")
    loss, lengths = our_loss(ours, batch), batch.lengths()
    taken = seconds(step(ours, autocast(loss, device)), 5 * given.rounds, device)
    report("questions trained on", given.questions / taken, 3 * operations(config, lengths) / taken, product, peak)


def autocast(loss: Callable[[], torch.Tensor], device: torch.device) -> Callable[[], torch.Tensor]:
    def lowered() -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return loss()

    return lowered


def main():
    given = options(__doc__, passages=20_000, questions=128)
    if not torch.cuda.is_available():
        print("accelerator: skipped, as torch sees no CUDA device")
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(given, torch.device("cuda"), Path(folder))


if __name__ == "__main__":
    main()
