"""Reading shuffled batches of features: the store against a `datasets` Array2D column in numpy format, in one run."""

import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import torch

from vlret.features.store import FeatureStore, FeatureWriter

IMAGES, REGIONS, DIM, BATCH, ROUNDS = 500, 36, 2048, 64, 3


def seconds(read, batches):
    """The fastest of some rounds over all batches."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for rows in batches:
            read(rows)
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    random = np.random.default_rng(0)
    features = random.random((IMAGES, REGIONS, DIM), dtype=np.float32)
    batches = np.array_split(random.permutation(IMAGES), IMAGES // BATCH)
    with tempfile.TemporaryDirectory() as folder:
        writer = FeatureWriter(Path(folder) / "store", REGIONS, DIM)
        writer.add([str(row) for row in range(IMAGES)], features, np.zeros((IMAGES, REGIONS, 4), np.float32))
        writer.finish({"backbone": "random"})
        columns = datasets.Features({"features": datasets.Array2D((REGIONS, DIM), "float32")})
        table = datasets.Dataset.from_dict({"features": features}, features=columns)
        table.save_to_disk(Path(folder) / "table")
        table = datasets.load_from_disk(str(Path(folder) / "table")).with_format("numpy")
        store = FeatureStore.open(Path(folder) / "store")
        theirs = seconds(lambda rows: table[rows]["features"], batches)
        stored = seconds(store.read, batches)
        single = seconds(lambda rows: torch.from_numpy(store.read(rows)[0]).float(), batches)
    ratios = f"fp16 as stored {theirs / stored:.1f}x, turned to fp32 {theirs / single:.1f}x"
    print(f"feature store, {IMAGES} x [{REGIONS}, {DIM}], shuffled batches of {BATCH}, {ratios}")
    print(f"the speed of an fp32 Array2D column of datasets {datasets.__version__} in numpy format")


if __name__ == "__main__":
    main()
