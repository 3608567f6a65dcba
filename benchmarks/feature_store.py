"""The speed of reading shuffled batches of features, relative to a `datasets` Array2D column in numpy format."""

import argparse
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np

from vlret.features.store import DTYPES, FeatureStore, FeatureWriter

REGIONS, DIM, BATCH = 36, 2048, 64


def seconds(read, batches, clock):
    """The time to read all batches."""
    start = clock()
    for rows in batches:
        read(rows)
    return clock() - start


def stored(folder: Path, features: np.ndarray, dtype: str) -> FeatureStore:
    """The features in a store of one precision."""
    writer = FeatureWriter(folder / dtype, REGIONS, DIM, dtype)
    boxes = np.zeros((len(features), REGIONS, 4), np.float32)
    writer.add([str(row) for row in range(len(features))], features, boxes)
    writer.finish({"backbone": "random"})
    return FeatureStore.open(folder / dtype)


def column(folder: Path, features: np.ndarray) -> datasets.Dataset:
    """The features as an Array2D column in numpy format."""
    columns = datasets.Features({"features": datasets.Array2D((REGIONS, DIM), "float32")})
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"features": features}, features=columns).save_to_disk(folder / "table")
    return datasets.load_from_disk(str(folder / "table")).with_format("numpy")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu-time", action="store_true", help="compare CPU seconds, for a busy machine")
    given = parser.parse_args()
    clock = time.process_time if given.cpu_time else time.perf_counter
    random = np.random.default_rng(0)
    features = random.random((given.images, REGIONS, DIM), dtype=np.float32)
    batches = np.array_split(random.permutation(given.images), given.images // BATCH)
    with tempfile.TemporaryDirectory() as temporary:
        table = column(Path(temporary), features)
        stores = {dtype: stored(Path(temporary), features, dtype) for dtype in DTYPES}
        np.testing.assert_array_equal(table[batches[0]]["features"], stores["float32"].read(batches[0])[0])
        readers = {"table": lambda rows: table[rows]["features"], **{name: one.read for name, one in stores.items()}}
        rounds = [{name: seconds(read, batches, clock) for name, read in readers.items()} for _ in range(given.rounds)]
    best = {name: min(one[name] for one in rounds) for name in readers}
    print(
        f"shuffled batches of {BATCH} from {given.images} x [{REGIONS}, {DIM}], best of {given.rounds} rounds, against"
    )
    print(f"an fp32 Array2D column of datasets {datasets.__version__} in numpy format")
    for dtype in DTYPES:
        print(f"  a store of {dtype} {best['table'] / best[dtype]:.1f}x")


if __name__ == "__main__":
    main()
