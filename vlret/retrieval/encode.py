"""Encode the units of a side, in windows that are the same for any number of shards."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from vlret.console import bar
from vlret.encoders.biencoder import BiEncoder, Tower
from vlret.encoders.inputs import Side, on_device, prefetch
from vlret.encoders.joint import see
from vlret.encoders.precision import autocast, round_linear

WINDOW = 1 << 12  # units sorted by length at a time; what a killed job loses at most


def encode(model: BiEncoder, side: Side, batch_size: int, unit: str, precision: str = "fp32") -> np.ndarray:
    """The vectors of a side, `[units, dim]` float32."""
    return np.concatenate(list(encode_in_windows(model, side, batch_size, unit, precision)))


def prepared(model: BiEncoder, precision: str, device: torch.device) -> BiEncoder:
    """The model on a device, for good: its linear maps are rounded to the precision of their products."""
    round_linear(model, precision, lambda name: model.part_of(name) != "visual")
    return model.to(device)


@torch.inference_mode()
def encode_in_windows(
    model: BiEncoder,
    side: Side,
    batch_size: int,
    unit: str,
    precision: str = "fp32",
    spans: list[range] | None = None,
) -> Iterator[np.ndarray]:
    """The vectors of a side in order, in windows `[units, dim]` float32; similar lengths are encoded together.

    Other threads tokenize texts and read features while earlier batches are encoded. A GPU is waited for once a window.

    Parameters
    ----------
    unit
        `question`, or what the passage tower encodes: `passage` or `article`.
    precision
        `fp32`, `bf16` or `fp16`.
    spans
        The windows to encode, some of `windows`; by default all.
    """
    model.eval()
    spans = windows(len(side), batch_size) if spans is None else spans
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    tower = model.question if unit == "question" or model.passage is None else model.passage
    read = prefetch((np.arange(span.start, span.stop), side.tokens(span)) for span in spans)
    with bar(sum(map(len, spans)), f"{unit}s", unit) as shown:
        for units, tokens in read:
            with autocast(precision, device):
                window = _encode(tower, side, units, tokens, batch_size, device, shown.update)
            yield window.cpu().numpy()


def windows(units: int, batch_size: int, shard: tuple[int, int] = (1, 1)) -> list[range]:
    """The windows of a shard `(number, of)`, from 1: whole batches, shared out evenly."""
    size = max(1, WINDOW // batch_size) * batch_size
    spans = [range(start, min(start + size, units)) for start in range(0, units, size)]
    number, of = shard
    return spans[(number - 1) * len(spans) // of : number * len(spans) // of]


def _encode(
    tower: Tower,
    side: Side,
    units: np.ndarray,
    tokens: list[list[int]] | None,
    batch_size: int,
    device: torch.device,
    done: Callable[[int], object],
) -> Tensor:
    """The vectors of a window's units, `[units, dim]` float32, on the device."""
    vectors = None
    seen = None if tokens is None or side.images is None else Images(tower, side, units, batch_size, device)
    batches = side.batches(units, batch_size, tokens, images=seen is None)
    for places, inputs in on_device(_with_places(batches), device):
        where = inputs.pop("places")
        encoded = tower(**inputs, **(seen.visual(places) if seen else {})).float()
        if vectors is None:
            vectors = encoded.new_empty((len(units), encoded.shape[1]))
        vectors[where] = encoded
        done(len(places))
    return vectors


def _with_places(batches: Iterator[tuple[np.ndarray, dict[str, Tensor]]]) -> Iterator[tuple[np.ndarray, dict]]:
    for places, inputs in batches:
        yield places, {**inputs, "places": torch.from_numpy(places)}


class Images:
    """The visual tokens of a window's images: each image is read and embedded once, whatever number of texts it has."""

    def __init__(self, tower: Tower, side: Side, units: np.ndarray, batch_size: int, device: torch.device):
        rows, self.of = np.unique(side.images[units], return_inverse=True)
        self.missing = int(len(rows) > 0 and rows[0] < 0)
        parts = np.array_split(rows[self.missing :], -(-(len(rows) - self.missing) // batch_size) or 1)
        inputs = ((None, side.read(part)) for part in parts if len(part))
        visual = [see(tower.encoder, **images) for _, images in on_device(inputs, device)]
        self.tokens, self.mask = (torch.cat(each) for each in zip(*visual, strict=True)) if visual else (None, None)

    def visual(self, places: np.ndarray) -> dict[str, Tensor]:
        """The arguments of an encoder for some units of the window, which all have an image or none."""
        rows = self.of[places] - self.missing
        if rows[0] < 0:
            return {}
        where = torch.from_numpy(rows).to(self.tokens.device, non_blocking=True)
        return {"visual": self.tokens[where], "visual_mask": self.mask[where]}
