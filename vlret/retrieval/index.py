"""From vectors to a FAISS index under inner product, ids kept."""

from pathlib import Path

import faiss
import numpy as np

from vlret.files import InputError, whole

# Vectors read at a time: 65,536 of 768 dimensions are 200 MB.
CHUNK = 65_536


def build(embeddings: Path, factory: str, out: Path) -> None:
    """Index `passages.npy` `[units, dim]` of the folder `embeddings` in the file `out`.

    The index is FAISS's `factory` under inner product, so that a higher score is better; the id of a vector is its
    row. A row of NaN (a unit that has no vector, such as an article without image) is left out.

    Raises `InputError` for a factory that FAISS does not know or cannot train, vectors that are not finite, and where
    no row is a vector.
    """
    path = Path(embeddings) / "passages.npy"
    vectors = read_vectors(path)
    present = has_vector(vectors, path)
    if not present.any():
        raise InputError(f"{path}: no row holds a vector, so there is nothing to search")
    try:
        index = faiss.IndexIDMap2(faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT))
        if not index.is_trained:
            index.train(np.ascontiguousarray(vectors[present], dtype=np.float32))
        for start in range(0, len(vectors), CHUNK):
            rows = start + np.flatnonzero(present[start : start + CHUNK])
            index.add_with_ids(np.ascontiguousarray(vectors[rows], dtype=np.float32), rows.astype(np.int64))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"index {factory!r} cannot hold {present.sum()} vectors of {path}: {reason}") from error
    with whole(out) as aside:
        faiss.write_index(index, str(aside))


def read_vectors(path: Path) -> np.ndarray:
    """Map a `.npy` file of `[units, dim]` floats into memory; `InputError` where it is something else."""
    try:
        vectors = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an array ({error}); embed again") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise InputError(f"{path}: {vectors.dtype} {vectors.shape}, expected floats [units, dim]; embed again")
    return vectors


def has_vector(vectors: np.ndarray, path: Path) -> np.ndarray:
    """Which rows are vectors, `[units]` bool; the others are NaN throughout, and `InputError` says where one is not."""
    present = np.empty(len(vectors), dtype=bool)
    for start in range(0, len(vectors), CHUNK):
        chunk = vectors[start : start + CHUNK]
        present[start : start + CHUNK] = finite = np.isfinite(chunk).all(axis=1)
        broken = np.flatnonzero(~finite & ~np.isnan(chunk).all(axis=1))
        if len(broken):
            raise InputError(f"{path}, row {start + broken[0]}: not finite, and not NaN throughout; embed again")
    return present
