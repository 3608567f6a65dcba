"""FAISS indices by inner product with unit ids, for more vectors than exact search can handle."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import faiss
import numpy as np

from vlret.console import progress, say
from vlret.digests import digests
from vlret.files import InputError, atomic, read_json, write_json
from vlret.locks import locked
from vlret.retrieval.units import chunk_count, chunks, has_vector
from vlret.retrieval.vectors import Vectors
from vlret.snapshot import Snapshot

# Training vectors: FAISS's k-means takes 256 per centroid, which this is for the 256 centroids of a product quantiser's
# parts; the more numerous cells of an inverted file need fewer each.
SAMPLE, SAMPLE_OF_A_CELL = 65_536, 64

ZERO = re.compile(r"(?<![0-9])0+(?![0-9])")
COUNTS = ("nprobe", "efSearch")  # integer search parameters

SECONDS = 600  # between saved states, as long as which a kill costs at most
INDEX, NEXT = "index.faiss", "next.json"

GPU_DEPTH = 2048  # the maximum depth of FAISS's GPU kernels


def build(embeddings: Sequence[Path], factory: str, seed: int, out: Path) -> None:
    """Build a FAISS index of embedded units.

    The metric is the inner product, and the id of a vector is its row. Rows of NaN (units without a vector, such as
    articles without an image) are left out. The index is trained on a sample, the cells of an inverted file on a GPU if
    there is one. Results are reproducible, except that an HNSW graph depends on the number of threads and on where
    a killed job was resumed: by the same command, from a folder beside `out`.

    Parameters
    ----------
    embeddings
        The shards that `vlret.retrieval.embed.embed_passages` made, in order.
    factory
        A FAISS index factory string, such as `IVF1024,Flat`.
    seed
        Seed of the training sample.
    out
        The file to write.

    Raises
    ------
    InputError
        If FAISS does not know, cannot train or would crash on the factory, vectors are not finite, or there are none.
    """
    if factory == "Flat":
        raise InputError(
            "retrieval.index: 'Flat' is exact search, which needs no index; omit --index from `retrieval search`"
        )
    if ZERO.search(factory):  # some crash FAISS
        raise InputError(f"retrieval.index: {factory!r} contains a count of 0; use at least 1")
    vectors = Vectors.open(embeddings)
    present, path = np.flatnonzero(has_vector(vectors)), vectors.path
    if not len(present):
        raise InputError(f"{path}: no row holds a vector")
    with locked(out.parent / f".{out.name}.lock"):
        known = partial(_known, factory, seed, embeddings)
        snapshot = Snapshot(out.parent / f"{out.name}.unfinished", known, SECONDS)
        try:
            index = _filled(vectors, present, factory, seed, snapshot)
        except RuntimeError as error:
            reason = _reason(error)
            raise InputError(
                f"retrieval.index: {factory!r} cannot hold {len(present)} vectors of {path}: {reason}"
            ) from error
        with atomic(out) as aside:
            faiss.write_index(index, str(aside))
        snapshot.remove()


def _filled(vectors: Vectors, present: np.ndarray, factory: str, seed: int, snapshot: Snapshot) -> faiss.Index:
    """An index of the vectors, gone on with from the snapshot if there is one."""
    state, first = snapshot.last(), 0
    if state:
        index, first = faiss.read_index(str(state / INDEX)), read_json(state / NEXT)["row"]
        say(f"index: resuming with row {first}")
    else:
        index = faiss.IndexIDMap2(_trained(vectors, present, factory, seed))
        snapshot.save(partial(_write, index, 0))
    left = chunks(vectors, first), chunk_count(vectors, first)
    for start, chunk, lengths in progress(*left, " chunks", "index"):
        kept = lengths.isfinite()
        index.add_with_ids(chunk[kept].numpy(), start + np.flatnonzero(kept.numpy()))
        snapshot.save(partial(_write, index, start + len(chunk)))
    return index


def _write(index: faiss.Index, first: int, folder: Path) -> None:
    """Save an index of all units before row `first`."""
    folder.mkdir()
    faiss.write_index(index, str(folder / INDEX))
    write_json(folder / NEXT, {"row": first})


def _known(factory: str, seed: int, embeddings: Sequence[Path]) -> tuple[dict, dict[str, str]]:
    """The settings and inputs of an unfinished index."""
    return {"factory": factory, "seed": seed}, digests({path.name: path for path in embeddings})


def _trained(vectors: Vectors, present: np.ndarray, factory: str, seed: int) -> faiss.Index:
    """An empty index, trained if its kind needs it."""
    index = faiss.index_factory(vectors.dim, factory, faiss.METRIC_INNER_PRODUCT)
    cells = faiss.try_extract_index_ivf(index)
    if cells and cells.nlist > len(present):
        raise InputError(
            f"retrieval.index: {factory!r} has {cells.nlist} cells for {len(present)} vectors of {vectors.path}"
        )
    if not index.is_trained:
        _train(index, vectors, present, seed)
    return index


def _train(index: faiss.Index, vectors: Vectors, present: np.ndarray, seed: int) -> None:
    """Train on a sample of the vectors, or on all if they are few."""
    cells = faiss.try_extract_index_ivf(index)
    wanted = max(SAMPLE, SAMPLE_OF_A_CELL * cells.nlist) if cells else SAMPLE
    if wanted < len(present):
        present = np.sort(np.random.default_rng(seed).choice(present, wanted, replace=False))
    if cells and faiss.get_num_gpus():
        clustering = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(cells.d))
        cells.clustering_index = clustering
    index.train(vectors.rows(present))


class Index:
    """A FAISS index that proposes units for a question, to be scored exactly.

    Attributes
    ----------
    dim
        The width of the vectors.
    rows
        `[vectors]`, each vector's unit.
    deepest
        The maximum number of units that can be proposed.
    """

    def __init__(self, path: Path, parameters: str):
        """Memory-map the file `path` and set search `parameters`, such as `nprobe=16` (FAISS's, comma-separated).

        Raises `InputError` if the file is not an index or the parameters do not apply to it.

        With FAISS for GPUs, the index is sharded over them; an HNSW index stays on the CPU.
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
            raise InputError(f"{path}: not an index made by vlret; index again") from error
        self.dim, self.deepest = mapped.d, mapped.ntotal
        self._index, space = faiss.downcast_index(mapped.index), faiss.ParameterSpace()
        if faiss.get_num_gpus() and isinstance(self._index, faiss.IndexHNSW):
            say(f"{path}: FAISS has no HNSW on GPUs; searching on the CPU")
        elif faiss.get_num_gpus():
            options = faiss.GpuMultipleClonerOptions()
            options.shard = True
            self._index, space = faiss.index_cpu_to_all_gpus(self._index, options), faiss.GpuParameterSpace()
            self.deepest = min(self.deepest, GPU_DEPTH)
        try:
            space.set_index_parameters(self._index, parameters)
        except RuntimeError as error:
            raise InputError(
                f"retrieval.parameters: {parameters!r} cannot be set on {path}: {_reason(error)}"
            ) from error

    def propose(self, questions: np.ndarray, depth: int) -> np.ndarray:
        """The units of the best vectors for `questions` `[questions, dim]`: `[questions, depth]`, -1 if none.

        Raises `InputError` if FAISS cannot search with the parameters.
        """
        try:
            _, places = self._index.search(questions, min(depth, self.deepest))
        except RuntimeError as error:
            raise InputError(f"retrieval.parameters: {self.parameters!r}: search failed: {_reason(error)}") from error
        return np.where(places < 0, -1, self.rows[places])


def _check(parameters: str) -> None:
    """Raise `InputError` for an invalid search parameter that FAISS would accept."""
    for part in filter(None, parameters.split(",")):
        name, _, value = (word.strip() for word in part.partition("="))
        if name.rpartition("_")[2] in COUNTS and not re.fullmatch("0*[1-9][0-9]{0,8}", value):
            raise InputError(f"retrieval.parameters: {name} is {value!r}, expected a positive integer")


def _reason(error: RuntimeError) -> str:
    """FAISS's message without the function's name and line."""
    return str(error).rsplit(":", maxsplit=1)[-1].strip()
