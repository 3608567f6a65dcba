"""The speed of feature extraction from image files, relative to the backbone's on decoded images.

The backbone is CLIP's ViT-B/32 with random weights, the images are JPEGs of web thumbnail size. If the backbone uses
all cores, decoding in workers slows it down, so the ratio is below 1 by the cost of decoding, also reported. A GPU
leaves the cores to the workers.
"""

import json
import tempfile
from argparse import Namespace
from collections import deque
from pathlib import Path

import numpy as np
import open_clip
import torch
from bench import contest, options, ratio
from PIL import Image
from safetensors.torch import save_file

from vlret.data.images import open_image
from vlret.features.backbones import load
from vlret.features.extract import fill
from vlret.features.store import FeatureWriter
from vlret.locks import locked
from vlret.settings import CLIPVision

ENTRY = CLIPVision(family="clip", output="grid", dim=768, weights={"path": "clip"})
SIDES = (384, 512)  # wikimage's thumbnails are 512 pixels wide


def photographs(folder: Path, count: int) -> list[str]:
    """Write smooth random images with some noise, whose JPEG size is like that of photographs."""
    random = np.random.default_rng(0)
    folder.mkdir()
    names = [f"{number:05}.jpg" for number in range(count)]
    for name in names:
        smooth = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(SIDES[::-1])
        noisy = np.asarray(smooth) + random.normal(scale=4, size=(*SIDES, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / name, quality=85)
    return names


def clip(folder: Path) -> Path:
    """A random ViT-B/32 in open_clip's format."""
    folder.mkdir()
    config = open_clip.get_model_config("ViT-B-32")
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return folder


def compare(given: Namespace, folder: Path) -> dict[str, float]:
    """Seconds to decode all images, to describe them when decoded, and to do both as an extraction does."""
    names, model = photographs(folder / "images", given.images), load("clip", ENTRY, clip(folder / "clip"))
    size = sum(path.stat().st_size for path in (folder / "images").iterdir()) / len(names) / 1000
    print(f"  {len(names)} JPEGs of {SIDES[1]} x {SIDES[0]}, {size:.0f} kB, {model.device}, {given.workers} workers")
    decoded = [model.prepare(open_image(folder / "images" / name)) for name in names]
    batches = [decoded[start : start + given.batch_size] for start in range(0, len(names), given.batch_size)]

    def extract() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as store, locked(folder / ".lock") as lock:
            writer = FeatureWriter(Path(store) / "store", model.regions, model.dim)
            limit = (0, "cannot be read")
            exhaust(fill(writer, model, names, folder / "images", given.workers, given.batch_size, limit, lock))

    contestants = {
        "decoding": lambda: exhaust(model.prepare(open_image(folder / "images" / name)) for name in names),
        "backbone": lambda: exhaust(map(model.describe, batches)),
        "extraction": extract,
    }
    return contest(contestants, given)


def exhaust(steps) -> None:
    deque(steps, maxlen=0)


def main():
    sizes = {"images": (512, 8), "batch_size": (32, 4), "workers": (2, 1), "rounds": (3, 1)}
    given = options(__doc__, **sizes)
    with tempfile.TemporaryDirectory() as folder:
        seconds = compare(given, Path(folder))
    ratio("extraction from image files", seconds["backbone"] / seconds["extraction"], "the backbone on decoded images")
    print(f"  the backbone describes {given.images / seconds['backbone']:.1f} images/s; decoding on one core takes")
    print(f"  {seconds['decoding'] / seconds['backbone']:.3f} of its time")


if __name__ == "__main__":
    main()
