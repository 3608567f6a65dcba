"""Runs and qrels: TREC files, a deterministic order, and metrics per question.

A run ranks passages for each question, best first; higher scores are always better. Ties are broken by passage row, so
rankings are deterministic. TREC files identify a passage by its row number, written with eight digits so that ids sort
as rows do. Files named `.gz` are compressed. Foreign files are read as strictly: anything ambiguous is an error with
its line number.
"""

import gzip
import io
import re
import shutil
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from vlret.files import InputError, atomic

METRICS = {"mrr": "reciprocal_rank", "precision": "precision", "hit_rate": "hit_rate"}  # our name: ranx's function
WIDTH = 8
# Stricter than Python's: no `1_000`, no digits of other scripts, no NaN.
INTEGER, NUMBER = re.compile(r"[+-]?[0-9]+"), re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Ranking(NamedTuple):
    """Passages of one question, best first: `passages [k]` rows as int64, `scores [k]` as float64."""

    passages: np.ndarray
    scores: np.ndarray


def passage_id(row: int) -> str:
    """The id of passage `row` in TREC files."""
    if not 0 <= row < 10**WIDTH:
        raise InputError(f"passage row {row} does not fit in {WIDTH} digits")
    return f"{row:0{WIDTH}d}"


def passage_row(identifier: str) -> int:
    """The passage row of a TREC id; raises `ValueError` for anything but up to eight digits."""
    if not re.fullmatch(rf"[0-9]{{1,{WIDTH}}}", identifier):
        raise ValueError(f"passage id {identifier[:40]!r} is not a row number of at most {WIDTH} digits")
    return int(identifier)


def run_name(path: Path) -> str:
    """The name of a run's file without the suffixes `.gz` and `.trec`."""
    return Path(path).name.removesuffix(".gz").removesuffix(".trec")


def sort_ranking(passages: np.ndarray, scores: np.ndarray, k: int | None = None) -> Ranking:
    """Sort by descending score, ties by passage row, and keep the first `k` (all if None).

    The cut is exact even through a tie. Raises `ValueError` if a score is NaN.
    """
    passages = np.asarray(passages, dtype=np.int64)
    scores = np.asarray(scores, dtype=np.float64)
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    if k is not None and 0 < k < len(scores):
        smallest = np.partition(scores, len(scores) - k)[len(scores) - k]
        kept = np.flatnonzero(scores >= smallest)
        passages, scores = passages[kept], scores[kept]
    order = np.lexsort((passages, -scores))[:k]
    return Ranking(passages[order], scores[order])


def write_run(path: Path, run: Mapping[str, Ranking], tag: str) -> None:
    """Write `question Q0 passage rank score tag` lines, ranks from 1; scores round-trip exactly.

    Questions keep the order of `run`; an empty ranking writes no line, as usual in TREC.
    """
    _check_fields([tag, *run], path)
    with _text_writer(path) as lines:
        for question, ranking in run.items():
            passages, scores = sort_ranking(*ranking)
            lines.writelines(
                f"{question} Q0 {passage_id(passage)} {rank} {score!r} {tag}\n"
                for rank, (passage, score) in enumerate(zip(passages.tolist(), scores.tolist(), strict=True), start=1)
            )


def concatenate(parts: Sequence[Path], out: Path) -> None:
    """Write the lines of several plain files to one, in order."""
    with _text_writer(out) as lines:
        for part in parts:
            with open(part, encoding="utf-8", newline="\n") as stream:
                shutil.copyfileobj(stream, lines)


def refuse(error: InputError) -> None:
    """Raise an error at once."""
    raise error


def read_run(path: Path, note: Callable[[InputError], None] = refuse) -> dict[str, Ranking]:
    """Read a TREC run, questions in file order, each sorted by `sort_ranking`, ignoring the ranks.

    A malformed line, a score that is not finite, or a passage that is listed twice for one question is an `InputError`
    with the line number: raised, or passed to `note`, which may skip the line.
    """
    found: dict[str, dict[int, float]] = {}
    for number, (question, _, identifier, _, text, _) in _fields(path, 6, note):
        ranked = found.setdefault(question, {})
        try:
            row, score = passage_row(identifier), float(_number(text, NUMBER, "score"))
            if not np.isfinite(score):
                raise ValueError(f"score {text} is not finite")
            if row in ranked:
                raise ValueError(f"passage {identifier} is listed twice for question {question}")
        except ValueError as error:
            note(InputError(f"{path}, line {number}: {error}"))
            continue
        ranked[row] = score
    return {
        question: sort_ranking(np.fromiter(ranked, np.int64), np.fromiter(ranked.values(), np.float64))
        for question, ranked in found.items()
    }


def join(runs: list[Path], k: int, tag: str, out: Path) -> None:
    """Concatenate runs of disjoint questions, keeping the first `k` passages per question.

    Parameters
    ----------
    runs
        Runs of disjoint questions, such as those of the splits.
    k
        Passages kept per question.
    tag
        The tag of the new run.
    out
        The file to write.

    Raises
    ------
    InputError
        If two runs rank passages for the same question.
    """
    joined: dict[str, Ranking] = {}
    for path in runs:
        run = read_run(path)
        if twice := joined.keys() & run.keys():
            raise InputError(f"{path}: question {min(twice)} is also in an earlier run")
        joined |= {question: Ranking(ranking.passages[:k], ranking.scores[:k]) for question, ranking in run.items()}
    write_run(out, joined, tag)


def write_qrels(path: Path, qrels: Mapping[str, Collection[int]]) -> None:
    """Write `question 0 passage 1` lines, passages by row.

    A question without relevant passages gets the line `question 0 00000000 0`, so that it is kept and counts as zero
    in every metric.
    """
    _check_fields(qrels, path)
    with _text_writer(path) as lines:
        for question, relevant in qrels.items():
            if not relevant:
                lines.write(f"{question} 0 {passage_id(0)} 0\n")
            lines.writelines(f"{question} 0 {passage_id(row)} 1\n" for row in sorted(set(map(int, relevant))))


def read_qrels(path: Path) -> dict[str, set[int]]:
    """Read TREC qrels: relevant passage rows per question (possibly none), questions in file order.

    Raises `InputError` with the line number for a malformed line or conflicting judgements of one passage, and for a
    file without questions.
    """
    qrels: dict[str, set[int]] = {}
    judgements: dict[tuple[str, int], int] = {}
    for number, (question, _, identifier, text) in _fields(path, 4):
        relevant = qrels.setdefault(question, set())
        try:
            row, judgement = passage_row(identifier), int(_number(text, INTEGER, "judgement"))
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        if judgements.setdefault((question, row), judgement) != judgement:
            raise InputError(f"{path}, line {number}: conflicting judgements of {identifier} for question {question}")
        if judgement > 0:
            relevant.add(row)
    if not qrels:
        raise InputError(f"{path}: no questions in these qrels")
    return qrels


def per_question(
    run: Mapping[str, Ranking], qrels: Mapping[str, Collection[int]], metrics: list[str]
) -> dict[str, np.ndarray]:
    """Compute each metric for each question of `qrels`, in its order, with ranx: float64 `[questions]`.

    A question that is missing from the run, has an empty ranking, or has no relevant passage counts as zero; questions
    that only the run has are ignored. ranx gets sorted arrays of row numbers: otherwise it would break ties by hash,
    drop empty rankings and recompile for each width of text ids.

    Raises `InputError` for a metric other than `mrr@k`, `precision@k` and `hit_rate@k`.
    """
    rankings = [run[question].passages if question in run else np.empty(0, np.int64) for question in qrels]
    ranked = _padded(rankings, 0.0)
    relevant = _padded([np.array(sorted(rows), dtype=np.int64) for rows in qrels.values()], 1.0)
    from vlret.jit import alone

    asked = {metric: _function_of(metric) for metric in metrics}
    # Not `ranx.evaluate`, which fails on a single metric.
    with alone("ranx.metrics") as theirs:
        return {metric: getattr(theirs, name)(relevant, ranked, k=cut) for metric, (name, cut) in asked.items()}


def _function_of(metric: str) -> tuple[str, int]:
    """The ranx function of a metric such as `mrr@100`, and its cut-off."""
    name, _, cut = metric.partition("@")
    if name not in METRICS or not cut.isdecimal() or int(cut) < 1:
        raise InputError(f"unknown metric {metric!r}: use one of {', '.join(METRICS)} with a cut-off, such as mrr@100")
    return METRICS[name], int(cut)


def _padded(rows: list[np.ndarray], value: float) -> np.ndarray:
    """Pad ragged rows for ranx: `[questions, longest, (row, value)]`; padding is row -1 with value 0."""
    longest = max([1, *map(len, rows)])
    padded = np.zeros((len(rows), longest, 2))
    padded[:, :, 0] = -1
    for index, passages in enumerate(rows):
        padded[index, : len(passages), 0] = passages
        padded[index, : len(passages), 1] = value
    return padded


def _number(text: str, form: re.Pattern, what: str) -> str:
    """Return a field unchanged; raises `ValueError` unless it is a number of that form."""
    if not form.fullmatch(text):
        kind = "a whole number" if form is INTEGER else "a finite number"
        raise ValueError(f"{what} {text[:40]!r} is not {kind}")
    return text


def _fields(path: Path, count: int, note: Callable[[InputError], None] = refuse) -> Iterator[tuple[int, list[str]]]:
    """Yield `(line number, fields)` of a TREC file, skipping blank lines and a byte-order mark.

    A malformed line is passed to `note` and skipped.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        with gzip.open(path) if Path(path).suffix == ".gz" else open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    fields = line.decode("utf-8-sig" if number == 1 else "utf-8").split()
                except UnicodeDecodeError as error:
                    note(InputError(f"{path}, line {number}: not UTF-8 ({error.reason}); convert the file"))
                    continue
                if fields and len(fields) != count:
                    note(InputError(f"{path}, line {number}: expected {count} fields, found {len(fields)}"))
                elif fields:
                    yield number, fields
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a complete gzip file: {error}") from error


@contextmanager
def _text_writer(path: Path) -> Iterator[TextIO]:
    """Write a text file atomically; equal lines give equal bytes, compressed or not."""
    with atomic(path) as aside, open(aside, "wb") as plain:
        if Path(path).suffix == ".gz":
            with gzip.GzipFile("", "wb", mtime=0, fileobj=plain) as packed, io.TextIOWrapper(packed, "utf-8") as lines:
                yield lines
        else:
            with io.TextIOWrapper(plain, "utf-8", newline="\n") as lines:
                yield lines


def _check_fields(words: Collection[str], path: Path) -> None:
    """Refuse ids and tags that are empty or contain white space, which separates the fields of a TREC file."""
    for word in words:
        if len(word.split()) != 1 or word != word.strip():
            raise InputError(f"{path}: {word!r} cannot be a TREC field: it is empty or contains white space")
