"""The speed of exact search from a memory-mapped file, relative to only the matrix product and FAISS's flat index."""

import tempfile
from pathlib import Path

import faiss
import numpy as np
import torch
from bench import contest, options, ratio
from torch.nn import functional as F

from vlret.retrieval import exact
from vlret.retrieval.units import CHUNK, Units
from vlret.retrieval.vectors import Vectors

K = 100


def unit_vectors(rows: int, dim: int, seed: int) -> torch.Tensor:
    """Random vectors of length 1, `[rows, dim]`."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dim, generator=generator), dim=1)


def stored(vectors: torch.Tensor, path: Path) -> Units:
    """The vectors in a memory-mapped file, one passage each."""
    np.save(path, vectors.numpy())
    return Units(Vectors.read(path), np.arange(len(vectors) + 1))


def agreement(units: Units, questions: torch.Tensor, index: faiss.Index) -> float:
    """The share of FAISS's passages that are among ours."""
    ours, (_, theirs) = exact.search(units, questions.numpy(), K), index.search(questions.numpy(), K)
    return float(np.mean([np.isin(rows, one.passages).mean() for rows, one in zip(theirs, ours, strict=True)]))


def main():
    given = options(__doc__, rounds=(3, 1), questions=(1000, 50), passages=(200_000, 5000), dim=(768, 64))
    faiss.omp_set_num_threads(given.threads)
    vectors, questions = unit_vectors(given.passages, given.dim, 0), unit_vectors(given.questions, given.dim, 1)
    index = faiss.IndexFlatIP(given.dim)
    index.add(vectors.numpy())
    with tempfile.TemporaryDirectory() as folder:
        half, single = (stored(of, Path(folder) / f"{of.dtype}.npy") for of in (vectors.half(), vectors))
        shared = agreement(single, questions[:50], index)
        seconds = contest(
            {
                "product": lambda: [questions @ chunk.T for chunk in vectors.split(CHUNK)],
                "half": lambda: exact.search(half, questions.numpy(), K),
                "single": lambda: exact.search(single, questions.numpy(), K),
                "faiss": lambda: index.search(questions.numpy(), K),
            },
            given,
        )
    print(f"  top {K} of {given.questions} questions among {given.passages} x {given.dim}, seconds: ", end="")
    print(", ".join(f"{name} {value:.2f}" for name, value in seconds.items()))
    for name, label in (("half", "float16"), ("single", "float32")):
        what = f"exact search of a {label} file"
        ratio(what, seconds["product"] / seconds[name], "only the matrix product")
        ratio(what, seconds["faiss"] / seconds[name], f"IndexFlatIP of FAISS {faiss.__version__}")
    print(f"  FAISS finds {100 * shared:.2f} % of the same passages")


if __name__ == "__main__":
    main()
