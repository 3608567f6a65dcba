"""From vectors to a FAISS index under inner product, ids kept: for more vectors than can be searched exactly."""

import re
from pathlib import Path

import faiss
import numpy as np

from vlret.console import progress, say
from vlret.files import InputError, whole
from vlret.retrieval.units import chunks, has_vector, how_many, read_vectors

# What an index is trained on: FAISS's k-means takes 256 vectors a centroid, and of those of a product quantiser,
# which are 256 for each part, this is as many; of the cells of an inverted file, which are more, fewer will do.
SAMPLE, SAMPLE_OF_A_CELL = 65_536, 64

ZERO = re.compile(r"(?<![0-9])0+(?![0-9])")
COUNTS = ("nprobe", "efSearch")  # parameters of search that are whole numbers

GPU_DEPTH = 2048  # the most that FAISS's kernels can rank


def build(embeddings: Path, factory: str, seed: int, out: Path) -> None:
    """Index `passages.npy` `[units, dim]` of the folder `embeddings` in the file `out`.

    The index is FAISS's `factory` under inner product, so that a higher score is better; the id of a vector is its
    row. A row of NaN (a unit that has no vector, such as an article without image) is left out. What the index has to
    learn it learns from a sample; the cells of an inverted file on a GPU, where there is one. The graph of an HNSW
    index depends on the number of threads that made it; all else is the same each time.

    Parameters
    ----------
    embeddings
        What `vlret.retrieval.embed.embed` wrote.
    factory
        FAISS's description of the index, such as `IVF1024,Flat`.
    seed
        Of the sample.
    out
        The file to write.

    Raises
    ------
    InputError
        For a factory that FAISS does not know, cannot train or does not survive, vectors that are not finite, and
        where no row is a vector.
    """
    path = Path(embeddings) / "passages.npy"
    if factory == "Flat":
        raise InputError(
            "retrieval.index: 'Flat' is exact search, which needs no index: leave --index out of `retrieval search`"
        )
    if ZERO.search(factory):  # some end the process in FAISS
        raise InputError(f"retrieval.index: {factory!r} counts 0 of something; name 1 or more")
    vectors = read_vectors(path)
    present = np.flatnonzero(has_vector(vectors, path))
    if not len(present):
        raise InputError(f"{path}: no row holds a vector, so there is nothing to search")
    try:
        index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        cells = faiss.try_extract_index_ivf(index)
        if cells and cells.nlist > len(present):
            raise InputError(
                f"retrieval.index: {factory!r} has {cells.nlist} cells for {len(present)} vectors of {path}"
            )
        if not index.is_trained:
            _train(index, vectors, present, seed)
        index = faiss.IndexIDMap2(index)
        for start, chunk, lengths in progress(chunks(vectors, path), how_many(vectors), " chunks", "index"):
            kept = lengths.isfinite()
            index.add_with_ids(chunk[kept].numpy(), start + np.flatnonzero(kept.numpy()))
    except RuntimeError as error:
        reason = _last(error)
        raise InputError(
            f"retrieval.index: {factory!r} cannot hold {len(present)} vectors of {path}: {reason}"
        ) from error
    with whole(out) as aside:
        faiss.write_index(index, str(aside))


def _train(index: faiss.Index, vectors: np.ndarray, present: np.ndarray, seed: int) -> None:
    """Train on some of the vectors, all where they are few."""
    cells = faiss.try_extract_index_ivf(index)
    wanted = max(SAMPLE, SAMPLE_OF_A_CELL * cells.nlist) if cells else SAMPLE
    if wanted < len(present):
        present = np.sort(np.random.default_rng(seed).choice(present, wanted, replace=False))
    if cells and faiss.get_num_gpus():
        clustering = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(cells.d))
        cells.clustering_index = clustering
    index.train(np.ascontiguousarray(vectors[present], dtype=np.float32))


class Index:
    """A FAISS index that proposes units for a question; their vectors then decide.

    Attributes
    ----------
    dim
        Of the vectors.
    rows
        `[vectors]`, the unit of each.
    deepest
        The most units that can be asked for.
    """

    def __init__(self, path: Path, parameters: str):
        """Map the file `path` into memory; set `parameters` of search, such as `nprobe=16` (FAISS's names, by comma).

        Raises `InputError` for a file that is no index, and for parameters that make no sense of it.

        With FAISS for GPUs the index is copied to them, a part to each; a graph (HNSW) stays where it is.
        """
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file")
        _check(parameters)
        self.parameters = parameters
        try:
            mapped = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
            self.rows = faiss.vector_to_array(mapped.id_map)
            self._held = mapped
        except (RuntimeError, AttributeError) as error:
            raise InputError(f"{path}: not an index that vlret made; index again") from error
        self.dim, self.deepest = mapped.d, mapped.ntotal
        self._index, space = faiss.downcast_index(mapped.index), faiss.ParameterSpace()
        if faiss.get_num_gpus() and isinstance(self._index, faiss.IndexHNSW):
            say(f"{path}: FAISS has no HNSW on GPUs; searched on the CPU")
        elif faiss.get_num_gpus():
            options = faiss.GpuMultipleClonerOptions()
            options.shard = True
            self._index, space = faiss.index_cpu_to_all_gpus(self._index, options), faiss.GpuParameterSpace()
            self.deepest = min(self.deepest, GPU_DEPTH)
        try:
            space.set_index_parameters(self._index, parameters)
        except RuntimeError as error:
            raise InputError(f"retrieval.parameters: {parameters!r} cannot be set on {path}: {_last(error)}") from error

    def propose(self, questions: np.ndarray, depth: int) -> np.ndarray:
        """The units of the best vectors for `questions` `[questions, dim]`: `[questions, depth]`, -1 for none.

        Raises `InputError` where FAISS cannot search by the parameters.
        """
        try:
            _, places = self._index.search(questions, min(depth, self.deepest))
        except RuntimeError as error:
            raise InputError(
                f"retrieval.parameters: {self.parameters!r}: cannot be searched: {_last(error)}"
            ) from error
        return np.where(places < 0, -1, self.rows[places])


def _check(parameters: str) -> None:
    """Raise `InputError` for a parameter of search that FAISS would take and make nothing of."""
    for part in filter(None, parameters.split(",")):
        name, _, value = (word.strip() for word in part.partition("="))
        if name.rpartition("_")[2] in COUNTS and not re.fullmatch("0*[1-9][0-9]{0,8}", value):
            raise InputError(f"retrieval.parameters: {name} is {value!r}, expected a whole number of at least 1")


def _last(error: RuntimeError) -> str:
    """What FAISS says after the name of the function and its line."""
    return str(error).rsplit(":", maxsplit=1)[-1].strip()
