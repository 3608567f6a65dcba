r"""Finding answers in passages: normalisation, and matching against passages that were normalised once.

The definitions are meerqat's (`answer_preprocess`, `find_relevant`, as used by ViQuAE and cvlp), with one difference:
an answer that normalises to nothing (such as `the` or `?`) matches no passage; in meerqat it matches every one.

There are two ways of matching. `meerqat` needs a word boundary (`\b`) on either side. If an answer begins or ends with
a symbol (`£50`, `90°`, `c♯`) or a vowel sign (as Hindi words do), this requires a letter next to it. `whole-words` does
what meerqat intends: no letter, digit or combining mark may be next to the answer.
"""

import mmap
import re
import string
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlret.files import InputError
from vlret.settings import Matching

PUNCTUATION = string.punctuation.encode()
ARTICLES = re.compile(r"\b(?:an?|the)\b")
ASCII_WORD = [chr(byte).isalnum() for byte in range(128)]
TEXTS, ENDS = "texts.utf8", "ends.npy"


def preprocess(text: str) -> str:
    """Lower case, no ASCII punctuation (`new-york` becomes `newyork`), no `a`, `an`, `the`, single spaces."""
    # On UTF-8 (no ASCII byte in longer characters), since `str.translate` is slow beyond ASCII.
    kept = text.lower().encode("utf-8", "surrogatepass").translate(None, PUNCTUATION).decode("utf-8", "surrogatepass")
    words = kept.split()
    if ARTICLES.search(" ".join([word for word in words if not word.isalnum()])):
        return " ".join(ARTICLES.sub(" ", " ".join(words)).split())
    line = f" {' '.join(words)} "
    # Equivalent, and much faster, if articles are surrounded by spaces only.
    for article in (" a ", " an ", " the "):
        while article in line:
            line = line.replace(article, " ")
    return line[1:-1]


def contains(preprocessed: str, answer: str) -> bool:
    """Whether a preprocessed text contains an answer as whole words; `answer` is preprocessed here."""
    return finder(answer)(preprocessed)


def finder(answer: str) -> Callable[[str], bool]:
    """`contains` for one answer and many preprocessed texts."""
    needle = Needle.of(answer)
    return lambda text: needle is not None and needle.stands_in(_bytes(text))


def has_answer(output: dict) -> bool:
    """Whether any answer of a question is non-empty after normalisation."""
    return any(preprocess(answer) for answer in [output["original_answer"] or "", *output["answer"]])


class Needle(NamedTuple):
    """A preprocessed answer to search for.

    Attributes
    ----------
    text
        UTF-8.
    first, last
        Whether a word character before it, or after it, rules out a match; otherwise one is required.
    marks
        Whether marks are word characters.
    """

    text: bytes
    first: bool
    last: bool
    marks: bool

    @classmethod
    def of(cls, answer: str, matching: Matching = "meerqat") -> "Needle | None":
        """Preprocess an answer as published; None if nothing is left of it."""
        wanted = preprocess(answer)
        if not wanted:
            return None
        if matching == "whole-words":
            return cls(_bytes(wanted), True, True, True)
        return cls(_bytes(wanted), wanted[0].isalnum(), wanted[-1].isalnum(), False)

    def places(self, texts: bytes, ends: Sequence[int]) -> list[int]:
        """Which of the texts contain the answer, in order.

        `texts`: preprocessed, each ending in a line feed; `ends`: the offset after each line feed.
        """
        found, at, size = [], texts.find(self.text), len(self.text)
        while at >= 0:
            before, behind = _word_before(texts, at, self.marks), _word_at(texts, at + size, self.marks)
            if before != self.first and behind != self.last:
                found.append(bisect_right(ends, at))
                at = texts.find(self.text, ends[found[-1]])
            else:
                at = texts.find(self.text, at + 1)
        return found

    def stands_in(self, text: bytes) -> bool:
        """Whether one preprocessed text contains the answer."""
        return self.text in text and bool(self.places(text + b"\n", [len(text) + 1]))


def _word_at(texts: bytes, at: int, marks: bool) -> bool:
    """Whether a word character begins at a byte of UTF-8 texts."""
    byte = texts[at]
    if byte < 128:
        return ASCII_WORD[byte]
    size = 2 + (byte >= 0xE0) + (byte >= 0xF0)
    character = texts[at : at + size].decode("utf-8", "surrogatepass")
    return character.isalnum() or (marks and _is_mark(character))


def _is_mark(character: str) -> bool:
    """Whether a character is a combining mark, except the variation selectors that follow emoji."""
    return unicodedata.category(character) in ("Mn", "Mc") and not "\ufe00" <= character <= "\ufe0f"


def _word_before(texts: bytes, at: int, marks: bool) -> bool:
    """Whether a word character ends before a byte of UTF-8 texts."""
    if not at:
        return False
    start = at - 1
    while texts[start] & 0xC0 == 0x80:
        start -= 1
    return _word_at(texts, start, marks)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class PreprocessedPassages:
    """The preprocessed texts of all passages, in a memory-mapped folder.

    `texts.utf8` has one per line, `ends.npy` (`[passages]` int64) the offset after each line feed.

    Parameters
    ----------
    texts
        The content of `texts.utf8`.
    ends
        `[passages]`.
    """

    def __init__(self, texts: bytes | mmap.mmap, ends: np.ndarray):
        self.texts, self.starts, self.ends = texts, np.concatenate([[0], ends[:-1]]), ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "PreprocessedPassages":
        """Preprocess texts as published, in memory."""
        lines = list(cls.lines(texts))
        return cls(b"".join(lines), np.fromiter(accumulate(map(len, lines)), np.int64))

    @staticmethod
    def lines(texts: Iterable[str]) -> Iterator[bytes]:
        """Preprocess texts as published to the lines of `texts.utf8`."""
        return (_bytes(preprocess(text)) + b"\n" for text in texts)

    @classmethod
    def write(cls, texts: Iterable[str], folder: Path) -> None:
        """Preprocess texts as published, one at a time, and write them to an existing folder."""
        ends = array("q")
        with open(folder / TEXTS, "wb") as stream:
            for line in cls.lines(texts):
                stream.write(line)
                ends.append(stream.tell())
        np.save(folder / ENDS, np.frombuffer(ends, np.int64))

    @classmethod
    def open(cls, folder: Path) -> "PreprocessedPassages":
        """Open what `write` wrote; raises `InputError` if it is incomplete."""
        try:
            ends = np.load(Path(folder) / ENDS)
            with open(Path(folder) / TEXTS, "rb") as stream:
                texts = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: cannot be read as preprocessed passages ({error}); make it again") from error
        if not len(ends) or ends[-1] != len(texts):
            raise InputError(f"{folder}: {TEXTS} and {ENDS} do not match; make it again")
        return cls(texts, ends)

    def __len__(self) -> int:
        return len(self.ends)

    def join(self, rows: Sequence[int]) -> tuple[bytes, list[int]]:
        """Some passages as one text, and the offset of each one's end: the arguments of `Needle.places`."""
        rows = np.asarray(rows, dtype=np.int64)
        starts, ends = self.starts[rows], self.ends[rows]
        parts = [self.texts[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        return b"".join(parts), np.cumsum(ends - starts).tolist()


def find_relevant(
    retrieved: Sequence[int],
    original_answer: str,
    answers: Sequence[str],
    passages: PreprocessedPassages,
    matching: Matching = "meerqat",
) -> tuple[list[int], list[int]]:
    """The `retrieved` passages that contain the original answer, and those that contain any, in their order."""
    texts, ends = passages.join(retrieved)
    original = Needle.of(original_answer, matching)
    with_original = set(original.places(texts, ends)) if original else set()
    relevant = set(with_original)
    for needle in _needed(answers, matching):
        if needle != original:
            relevant.update(needle.places(texts, ends))
    return tuple([retrieved[place] for place in sorted(places)] for places in (with_original, relevant))


def _needed(answers: Iterable[str], matching: Matching) -> list[Needle]:
    """Shortest first, without those that contain an earlier one, which matches wherever they do."""
    kept: list[Needle] = []
    needles = {needle for answer in answers if (needle := Needle.of(answer, matching))}
    for needle in sorted(needles, key=lambda needle: (len(needle.text), needle.text)):
        if not any(short.stands_in(needle.text) for short in kept):
            kept.append(needle)
    return kept
