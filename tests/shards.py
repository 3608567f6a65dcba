"""Vectors as the embedding writes them."""

import numpy as np

from vlret.retrieval.units import Units
from vlret.retrieval.vectors import Vectors, VectorWriter


def write_shard(folder, vectors, unit="passage", first=0, dtype="float32", window=10):
    """A shard written window by window."""
    writer = VectorWriter(folder, dtype, every=1)
    for start in range(0, len(vectors), window):
        writer.add(np.float32(vectors[start : start + window]), cut=0)
    writer.finish({"unit": unit, "first": first, "precision": "fp32"})
    return folder


def units_of(vectors, first=None):
    """Units in memory, by default with a passage each."""
    return Units(Vectors([vectors], "vectors.npy"), np.arange(len(vectors) + 1) if first is None else first)
