"""The inverted index: for each term the passages that hold it and how often, in memory-mapped arrays.

On disk a folder of
- `terms.txt`: one term a line, its number is the line's (from 0);
- `starts.npy` [terms + 1] int64: postings of term `t` lie at `starts[t]:starts[t + 1]`;
- `passages.npy` [postings] int32: passage rows, ascending within a term;
- `frequencies.npy` [postings] uint8: how often the term stands in that passage, 255 meaning 255 or more;
- `lengths.npy` [passages] unsigned, as wide as need be: terms of each passage, exact or as Lucene rounds them;
- `index.json`: counts and the analysis, which a search repeats on its questions.
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
from vlret.files import InputError, read_json, whole, write_json
from vlret.lexical.invert import document_frequencies, fill
from vlret.lexical.words import words
from vlret.settings import Analysis
from vlret.typed import typed

POSTINGS_AT_ONCE = 200_000_000  # five bytes each
# Those of Lucene's EnglishAnalyzer.
ENGLISH = """a an and are as at be but by for if in into is it no not of on or such that the their then there these they
this to was will with"""


Stem = Callable[[list[str]], list[str]]


def analyse(text: str, stop_words: Collection[str] = (), stem: Stem | None = None) -> list[str]:
    """The terms of a text, in order: its words (`vlret.lexical.words`), less the stop words, their stems."""
    terms = words(text)
    if stop_words:
        terms = [term for term in terms if term not in stop_words]
    return terms if stem is None else stem(terms)


def stemmer(asked: str) -> Stem | None:
    """Words to stems by one of Snowball's algorithms (`english`, `porter`, …), or None for `none`."""
    if asked == "none":
        return None
    if asked not in Stemmer.algorithms():
        known = ", ".join(Stemmer.algorithms())
        raise InputError(f"bm25 stemmer: {asked!r} is neither none nor one of Snowball's: {known}")
    return Stemmer.Stemmer(asked).stemWords


class Index:
    """An index opened for search; its arrays are read-only views of the files.

    Attributes
    ----------
    terms
        The number of each term.
    lengths
        `[passages]`, unsigned.
    distinct
        `[distinct lengths]`, each length that a passage has, over the average length; ascending.
    codes
        `[passages]`, where the length of each passage stands in `distinct`.

    Raises `InputError` if the folder holds no whole index.
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
        """`(term number, count in the text)` for each term of the text that the index knows, by number."""
        held = analyse(text, self.stop_words, self.stem)
        counts = Counter(self.terms[term] for term in held if term in self.terms)
        return sorted(counts.items())

    def postings(self, term: int) -> tuple[np.ndarray, np.ndarray]:
        """The passage rows that hold a term [n] int32 and its frequencies there [n] uint8."""
        here = slice(self.starts[term], self.starts[term + 1])
        return self.passages[here], self.frequencies[here]


@typed
def build(passages: Path, settings: Analysis, out: Path) -> None:
    """Index the passages' text, title first, in memory for the terms and for a bounded number of postings.

    Parameters
    ----------
    passages
        The table of passages.
    settings
        What is taken for words.
    out
        The folder to write.

    Raises
    ------
    InputError
        For a stemmer that is not known, and if there is no passage or no term.
    """
    total = len(load_from_disk(str(passages)))
    stop_words, stem = _stop_words(settings), stemmer(settings.stemmer)
    texts = (
        f"{title} {text}"
        for batch in read_batches(passages, ["title", "text"])
        for title, text in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )
    with whole(out) as aside:
        aside.mkdir()
        spool = aside / "tokens"
        terms, lengths = _number(progress(texts, total, "passage", "index"), stop_words, stem, spool)
        if not terms:
            raise InputError(f"{passages}: no passage holds a word, so there is nothing to index")
        analysis = settings.model_copy(update={"stop_words": sorted(stop_words)})
        write_index(aside, terms, np.memmap(spool, np.int32, "r"), lengths, analysis)
        spool.unlink()


def write_index(folder: Path, terms: list[str], tokens: np.ndarray, lengths: np.ndarray, analysis: Analysis) -> None:
    """Write the files of an index into a folder.

    Parameters
    ----------
    terms
        By their number.
    tokens
        `[tokens]` int32, the term numbers of all passages, one passage after the other.
    lengths
        `[passages]` int32, how many of them are each passage's.
    analysis
        What made terms of text; its `stop_words` are a list.
    """
    (folder / "terms.txt").write_text("\n".join(terms), encoding="utf-8")
    invert(tokens, lengths, len(terms), folder)
    kept = lengths if analysis.lengths == "exact" else lucene_lengths(lengths)
    np.save(folder / "lengths.npy", kept.astype(np.min_scalar_type(kept.max())))
    counts = {"passages": len(lengths), "terms": len(terms), "tokens": len(tokens)}
    write_json(folder / "index.json", {**counts, "analysis": analysis.model_dump()})


def invert(tokens: np.ndarray, lengths: np.ndarray, terms: int, folder: Path, at_once: int = POSTINGS_AT_ONCE) -> None:
    """Write `starts`, `passages` and `frequencies` of all passages' term numbers.

    A counting sort: postings are counted, then set where they belong. Terms are taken in ranges of `at_once` postings
    (or one term), each with a pass over the tokens, so that memory is bounded and files are written from start to end.
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
    """Lengths as Lucene keeps them in a byte: 24 and below as they are, beyond that four significant bits of the rest.

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
    """Number terms as they first appear: the terms, lengths [texts] int32; all texts' numbers go to `spool`, int32."""
    numbers: dict[str, int] = {}
    lengths = array("i")
    with open(spool, "wb") as stream:
        for text in texts:
            held = analyse(text, stop_words, stem)
            stream.write(np.array([numbers.setdefault(term, len(numbers)) for term in held], np.int32).tobytes())
            lengths.append(len(held))
    return list(numbers), np.array(lengths, dtype=np.int32)
