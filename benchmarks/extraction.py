"""The speed of feature extraction from image files, relative to the backbone's on decoded images.

The backbone is CLIP's ViT-B/32 with random weights, the images are JPEGs of web thumbnail size. If the backbone uses
all cores, decoding in workers slows it down, so the ratio is below 1 by the cost of decoding, also reported. A GPU
leaves the cores to the workers.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import open_clip
import torch
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


def seconds(steps: Iterable) -> float:
    """The time to iterate over `steps`."""
    start = time.perf_counter()
    for _ in steps:
        pass
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("images", 512), ("batch-size", 32), ("workers", 2), ("threads", 2), ("rounds", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names, model = photographs(folder / "images", given.images), load("clip", ENTRY, clip(folder / "clip"))
        decoded = []
        opened = seconds(decoded.append(model.prepare(open_image(folder / "images" / name))) for name in names)
        batches = [decoded[start : start + given.batch_size] for start in range(0, len(names), given.batch_size)]
        own, whole = [], []
        for number in range(given.rounds):
            own.append(seconds(map(model.describe, batches)))
            writer = FeatureWriter(folder / f"store{number}", model.regions, model.dim)
            how = (given.workers, given.batch_size, (0, "cannot be read"))
            with locked(folder / ".lock") as lock:
                whole.append(seconds(fill(writer, model, names, folder / "images", *how, lock)))
        size = sum(path.stat().st_size for path in (folder / "images").iterdir()) / len(names) / 1000
    kind = f"{len(names)} JPEGs of {SIDES[1]} x {SIDES[0]}, {size:.0f} kB"
    print(f"{kind}, {model.device}, {given.threads} threads, {given.workers} workers, best of {given.rounds} rounds")
    print(f"extraction {min(own) / min(whole):.2f} of the backbone's own speed of {len(names) / min(own):.1f} images/s")
    print(f"  decoding takes {opened / (min(own) * given.threads):.3f} of the backbone's core seconds")


if __name__ == "__main__":
    main()
