"""The inverted index: each term's passages and frequencies, in memory-mapped arrays.

It is a folder with
- `terms.txt`: one term per line; its number is the line's, from 0;
- `starts.npy` [terms + 1] int64: the postings of term `t` are `starts[t]:starts[t + 1]`;
- `passages.npy` [postings] int32: passage rows, ascending within a term;
- `frequencies.npy` [postings] uint8: the term's frequency in that passage, 255 meaning 255 or more;
- `lengths.npy` [passages] unsigned, of the smallest type: the number of terms, exact or rounded like Lucene;
- `index.json`: counts and the analysis, which searches apply to questions.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import numpy as np
import Stemmer
from datasets import load_from_disk

from vlret.console import progress
from vlret.data.tables import read_batches
from vlret.files import InputError, atomic, read_json, write_json
from vlret.lexical.invert import document_frequencies, fill
from vlret.lexical.words import words
from vlret.settings import Analysis
from vlret.typed import typed

POSTINGS_AT_ONCE = 200_000_000  # five bytes each
# The stop words of Lucene's EnglishAnalyzer.
ENGLISH = """a an and are as at be but by for if in into is it no not of on or such that the their then there these they
this to was will with"""


Stem = Callable[[list[str]], list[str]]


def analyse(text: str, stop_words: Collection[str] = (), stem: Stem | None = None) -> list[str]:
    """The terms of a text, in order: its words (`vlret.lexical.words`) without stop words, stemmed."""
    terms = words(text)
    if stop_words:
        terms = [term for term in terms if term not in stop_words]
    return terms if stem is None else stem(terms)


def stemmer(name: str) -> Stem | None:
    """A Snowball stemmer (`english`, `porter`, …), or None for `none`."""
    if name == "none":
        return None
    if name not in Stemmer.algorithms():
        known = ", ".join(Stemmer.algorithms())
        raise InputError(f"bm25 stemmer: {name!r} is neither none nor one of Snowball's: {known}")
    return Stemmer.Stemmer(name).stemWords


class Index:
    """An index opened for search; its arrays are read-only views of the files.

    Attributes
    ----------
    terms
        The number of each term.
    lengths
        `[passages]`, unsigned.
    distinct
        `[distinct lengths]`, the distinct passage lengths relative to the average length, ascending.
    codes
        `[passages]`, the index of each passage's length in `distinct`.

    Raises `InputError` if the folder holds no complete index.
    """

    def __init__(self, folder: Path):
        about = read_json(folder / "index.json")
        self.stop_words = frozenset(about["analysis"]["stop_words"])
        self.stem = stemmer(about["analysis"]["stemmer"])
        self.average_length = about["tokens"] / about["passages"]
        self.terms = {
            term: number for number, term in enumerate((folder / "terms.txt").read_text(encoding="utf-8").split("\n"))
        }
        self.starts = np.load(folder / "starts.npy")
        self.passages, self.frequencies, self.lengths = (
            np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))
            for name in ("passages", "frequencies", "lengths")
        )
        held = np.bincount(self.lengths) > 0
        self.distinct = np.flatnonzero(held) / self.average_length
        places = np.cumsum(held) - 1
        self.codes = places.astype(np.min_scalar_type(places[-1]))[self.lengths]

    def known(self, text: str) -> list[tuple[int, int]]:
        """`(term number, count in the text)` for each term of the text in the index, by number."""
        held = analyse(text, self.stop_words, self.stem)
        counts = Counter(self.terms[term] for term in held if term in self.terms)
        return sorted(counts.items())

    def postings(self, term: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a term's passages [n] int32 and its frequencies there [n] uint8."""
        here = slice(self.starts[term], self.starts[term + 1])
        return self.passages[here], self.frequencies[here]


@typed
def build(passages: Path, settings: Analysis, out: Path) -> None:
    """Index titles and texts of passages; memory holds the terms and a bounded number of postings.

    Parameters
    ----------
    passages
        The table of passages.
    settings
        How texts become terms.
    out
        The folder to write.

    Raises
    ------
    InputError
        If the stemmer is unknown, or there is no passage or no term.
    """
    total = len(load_from_disk(str(passages)))
    stop_words, stem = _stop_words(settings), stemmer(settings.stemmer)
    texts = (
        f"{title} {text}"
        for batch in read_batches(passages, ["title", "text"])
        for title, text in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )
    with atomic(out) as aside:
        aside.mkdir()
        spool = aside / "tokens"
        terms, lengths = _number(progress(texts, total, "passage", "index"), stop_words, stem, spool)
        if not terms:
            raise InputError(f"{passages}: no passage contains a word")
        analysis = settings.model_copy(update={"stop_words": sorted(stop_words)})
        write_index(aside, terms, np.memmap(spool, np.int32, "r"), lengths, analysis)
        spool.unlink()


def write_index(folder: Path, terms: list[str], tokens: np.ndarray, lengths: np.ndarray, analysis: Analysis) -> None:
    """Write the files of an index into a folder.

    Parameters
    ----------
    terms
        In the order of their numbers.
    tokens
        `[tokens]` int32, the term numbers of all passages, concatenated.
    lengths
        `[passages]` int32, the number of tokens of each passage.
    analysis
        How texts became terms; its `stop_words` are a list.
    """
    (folder / "terms.txt").write_text("\n".join(terms), encoding="utf-8")
    invert(tokens, lengths, len(terms), folder)
    kept = lengths if analysis.lengths == "exact" else lucene_lengths(lengths)
    np.save(folder / "lengths.npy", kept.astype(np.min_scalar_type(kept.max())))
    counts = {"passages": len(lengths), "terms": len(terms), "tokens": len(tokens)}
    write_json(folder / "index.json", {**counts, "analysis": analysis.model_dump()})


def invert(tokens: np.ndarray, lengths: np.ndarray, terms: int, folder: Path, at_once: int = POSTINGS_AT_ONCE) -> None:
    """Write `starts`, `passages` and `frequencies` from the term numbers of all passages.

    A counting sort, over ranges of terms with `at_once` postings (or one term), each with a pass over the tokens, so
    that memory is bounded and files are written sequentially.
    """
    starts = np.concatenate([[0], np.cumsum(document_frequencies(tokens, lengths, terms))])
    np.save(folder / "starts.npy", starts)
    first = 0
    with open(folder / "passages.npy", "wb") as passages, open(folder / "frequencies.npy", "wb") as frequencies:
        for stream, kind in ((passages, np.int32), (frequencies, np.uint8)):
            header = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": (int(starts[-1]),)}
            np.lib.format.write_array_header_1_0(stream, header)
        while first < terms:
            end = max(int(np.searchsorted(starts, starts[first] + at_once, side="right")) - 1, first + 1)
            for stream, array in zip(
                (passages, frequencies), fill(tokens, lengths, starts[first : end + 1], first), strict=True
            ):
                array.tofile(stream)
            first = end


def lucene_lengths(lengths: np.ndarray) -> np.ndarray:
    """Lengths as Lucene stores them in a byte: exact up to 24, then four significant bits of the rest.

    Lucene's `SmallFloat.intToByte4` followed by `byte4ToInt`, which rounds down.
    """
    rest = np.maximum(lengths - 24, 0)
    shift = np.maximum(np.frexp(rest)[1] - 4, 0)
    return np.where(lengths < 24, lengths, 24 + (rest >> shift << shift)).astype(np.int32)


def _stop_words(settings: Analysis) -> frozenset[str]:
    named = {"none": [], "english": ENGLISH.split()}
    return frozenset(named[settings.stop_words] if isinstance(settings.stop_words, str) else settings.stop_words)


def _number(
    texts: Iterable[str], stop_words: frozenset[str], stem: Stem | None, spool: Path
) -> tuple[list[str], np.ndarray]:
    """Number terms by first appearance and write them to `spool` (int32); returns the terms and lengths [texts]."""
    numbers: dict[str, int] = {}
    lengths = array("i")
    with open(spool, "wb") as stream:
        for text in texts:
            held = analyse(text, stop_words, stem)
            stream.write(np.array([numbers.setdefault(term, len(numbers)) for term in held], np.int32).tobytes())
            lengths.append(len(held))
    return list(numbers), np.array(lengths, dtype=np.int32)
