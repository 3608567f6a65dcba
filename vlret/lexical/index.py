"""The inverted index: for each term the passages that hold it and how often, in memory-mapped arrays.

On disk a folder of
- `terms.txt`: one term a line, its number is the line's (from 0);
- `starts.npy` [terms + 1] int64: postings of term `t` lie at `starts[t]:starts[t + 1]`;
- `passages.npy` [postings] int32: passage rows, ascending within a term;
- `frequencies.npy` [postings] uint8: how often the term stands in that passage, 255 meaning 255 or more;
- `lengths.npy` [passages] int32: terms of each passage, counted exactly;
- `index.json`: counts and the analysis, which a search repeats on its questions.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from datasets import load_from_disk

from vlret.console import progress
from vlret.files import InputError, read_json, whole, write_json

WORD = re.compile(r"\w+")


def analyse(text: str, stop_words: Iterable[str] = ()) -> list[str]:
    """The terms of a text, in order: NFKC, lower case, Unicode words (`\\w+`), less the stop words."""
    words = WORD.findall(unicodedata.normalize("NFKC", text).lower())
    return [word for word in words if word not in stop_words] if stop_words else words


class Index:
    """An index opened for search; its arrays are read-only views of the files.

    Raises `InputError` if the folder holds no whole index.
    """

    def __init__(self, folder: Path):
        about = read_json(folder / "index.json")
        self.stop_words = frozenset(about["analysis"]["stop_words"])
        self.average_length = about["tokens"] / about["passages"]
        self.terms = {
            term: number for number, term in enumerate((folder / "terms.txt").read_text(encoding="utf-8").split("\n"))
        }
        self.starts = np.load(folder / "starts.npy")
        self.passages, self.frequencies, self.lengths = (
            np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))
            for name in ("passages", "frequencies", "lengths")
        )

    def known(self, text: str) -> list[tuple[int, int]]:
        """`(term number, count in the text)` for each term of the text that the index knows, by number."""
        counts = Counter(self.terms[term] for term in analyse(text, self.stop_words) if term in self.terms)
        return sorted(counts.items())

    def postings(self, term: int) -> tuple[np.ndarray, np.ndarray]:
        """The passage rows that hold a term [n] int32 and its frequencies there [n] uint8."""
        here = slice(self.starts[term], self.starts[term + 1])
        return self.passages[here], self.frequencies[here]


def build(passages: Path, settings: dict, out: Path) -> None:
    """Index the passages' text, title first.

    `settings["stop_words"]` is `none` or a list of words that are left out of passages and questions.
    Raises `InputError` if there is no passage or no term.
    """
    table = load_from_disk(str(passages))
    stop_words = [] if settings["stop_words"] == "none" else sorted(settings["stop_words"])
    texts = (
        f"{title} {text}"
        for batch in table.iter(1000)
        for title, text in zip(batch["title"], batch["text"], strict=True)
    )
    terms, tokens, lengths = _number(progress(texts, len(table), "passage", "index"), frozenset(stop_words))
    if not len(tokens):
        raise InputError(f"{passages}: no passage holds a word, so there is nothing to index")
    with whole(out) as aside:
        aside.mkdir()
        (aside / "terms.txt").write_text("\n".join(terms), encoding="utf-8")
        for name, array in invert(tokens, lengths, len(terms)).items():
            np.save(aside / f"{name}.npy", array)
        np.save(aside / "lengths.npy", lengths)
        counts = {"passages": len(lengths), "terms": len(terms), "tokens": len(tokens)}
        write_json(aside / "index.json", {**counts, "analysis": {"stop_words": stop_words}})


def invert(tokens: np.ndarray, lengths: np.ndarray, terms: int) -> dict[str, np.ndarray]:
    """Turn the term numbers of all passages, one after the other [tokens], into `starts`, `passages`, `frequencies`."""
    rows = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    keys, counts = np.unique(tokens * np.int64(len(lengths)) + rows, return_counts=True)
    starts = np.searchsorted(keys, np.arange(terms + 1, dtype=np.int64) * len(lengths))
    return {
        "starts": starts.astype(np.int64),
        "passages": (keys % len(lengths)).astype(np.int32),
        "frequencies": np.minimum(counts, 255).astype(np.uint8),
    }


def _number(texts: Iterable[str], stop_words: frozenset[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Number terms as they first appear: the terms, the numbers of all texts [tokens] int64, lengths [texts] int32."""
    numbers: dict[str, int] = {}
    blocks, lengths = [np.empty(0, np.int64)], []
    for text in texts:
        words = analyse(text, stop_words)
        blocks.append(np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int64))
        lengths.append(len(words))
    return list(numbers), np.concatenate(blocks), np.array(lengths, dtype=np.int32)
