"""The speed of reading shuffled batches of features, relative to a `datasets` Array2D column in numpy format."""

import tempfile
from pathlib import Path

import datasets
import numpy as np
from bench import contest, options, ratio

from vlret.features.store import DTYPES, FeatureStore, FeatureWriter

REGIONS, DIM, BATCH = 36, 2048, 64


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
    given = options(__doc__, images=(2000, 128), rounds=(3, 1))
    random = np.random.default_rng(0)
    features = random.random((given.images, REGIONS, DIM), dtype=np.float32)
    batches = np.array_split(random.permutation(given.images), given.images // BATCH)
    with tempfile.TemporaryDirectory() as temporary:
        table = column(Path(temporary), features)
        stores = {dtype: stored(Path(temporary), features, dtype) for dtype in DTYPES}
        np.testing.assert_array_equal(table[batches[0]]["features"], stores["float32"].read(batches[0])[0])
        contestants = {dtype: lambda one=one: [one.read(rows) for rows in batches] for dtype, one in stores.items()}
        contestants["table"] = lambda: [table[rows]["features"] for rows in batches]
        seconds = contest(contestants, given)
    print(f"  shuffled batches of {BATCH} from {given.images} x [{REGIONS}, {DIM}]")
    peer = f"an fp32 Array2D column of datasets {datasets.__version__} in numpy format"
    for dtype in DTYPES:
        ratio(f"features of {dtype} read", seconds["table"] / seconds[dtype], peer)


if __name__ == "__main__":
    main()
