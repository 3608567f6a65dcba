"""BM25 against the written-out formula, `bm25s` (variant Lucene) and `rank_bm25`."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import bm25s
import numpy as np
import pytest
import rank_bm25
from datasets import Dataset, DatasetDict

from vlret.files import InputError, write_json
from vlret.lexical import search as searching
from vlret.lexical.index import Index, analyse, build
from vlret.lexical.score import take_best
from vlret.lexical.search import Searcher, search
from vlret.runs import read_run, write_run
from vlret.settings import BM25, Analysis

PLAIN = Analysis()
PARAMETERS = [(0.0, 0.0), (0.75, 1.2), (0.4, 0.9), (1.0, 3.0), (0.0, 2.0)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """800 passages of Zipf-distributed words: index, terms, 40 questions (some words unknown), folder."""
    folder = tmp_path_factory.mktemp("lexical")
    generator = np.random.default_rng(0)
    words = [f"w{number}" for number in range(400)]
    chances = 1 / np.arange(1, 401)
    draw = lambda n: " ".join(generator.choice(words, size=n, p=chances / chances.sum()))  # noqa: E731
    texts = [draw(length) for length in generator.integers(3, 60, size=800)]
    Dataset.from_dict({"title": ["w7"] * 800, "text": texts}).save_to_disk(str(folder / "passages"))
    build(folder / "passages", PLAIN, folder / "index")
    questions = [draw(12) for _ in range(38)] + ["w3 w3 w3 unknown", "w399"]
    return Index(folder / "index"), [analyse(f"w7 {text}") for text in texts], questions, folder / "index"


class LuceneOkapi(rank_bm25.BM25Okapi):
    """rank_bm25 with Lucene's idf, which is never negative; its scores keep the factor k1 + 1."""

    def _calc_idf(self, nd):
        for word, held in nd.items():
            self.idf[word] = math.log(1 + (self.corpus_size - held + 0.5) / (held + 0.5))


def same_top(ranking, expected, k=100):
    """Equal scores to 1e-4 in the top k, and the same passages except for ties with the last."""
    order = np.lexsort((np.arange(len(expected)), -expected))[:k]
    order = order[expected[order] > 0]
    np.testing.assert_allclose(ranking.scores, expected[order], atol=1e-4)
    np.testing.assert_allclose(expected[ranking.passages], ranking.scores, atol=1e-4)
    clear = expected[order] > expected[order][-1] + 1e-4
    assert set(order[clear]) <= set(ranking.passages.tolist())


def test_a_score_equals_the_formula(tmp_path):
    texts = ["sea sea salt", "salt", "land"]
    Dataset.from_dict({"title": ["a", "b", "c"], "text": texts}).save_to_disk(str(tmp_path / "passages"))
    build(tmp_path / "passages", PLAIN, tmp_path / "index")
    ranking = Searcher(Index(tmp_path / "index"), 0.75, 1.2).rank("salt, sea salt or none", 10)
    average = 8 / 3
    sea, salt = math.log(1 + 2.5 / 1.5), math.log(1 + 1.5 / 2.5)
    norms = [1.2 * (0.25 + 0.75 * length / average) for length in (4, 2)]
    first = sea * 2 / (2 + norms[0]) + 2 * salt * 1 / (1 + norms[0])
    assert ranking.passages.tolist() == [0, 1]
    np.testing.assert_allclose(ranking.scores, [first, 2 * salt / (1 + norms[1])], rtol=1e-14)


@pytest.mark.parametrize(("b", "k1"), PARAMETERS)
def test_bm25s_agrees(corpus, b, k1):
    index, tokens, questions, _ = corpus
    oracle = bm25s.BM25(method="lucene", k1=k1, b=b)
    oracle.index(tokens, show_progress=False)
    searcher = Searcher(index, b, k1)
    for question in questions:
        words = [word for word in analyse(question) if word in oracle.vocab_dict]
        same_top(searcher.rank(question, 100), oracle.get_scores(words))


@pytest.mark.parametrize(("b", "k1"), PARAMETERS[1:])  # k1 = 0 would divide 0 by 0
def test_rank_bm25_agrees_up_to_its_constant(corpus, b, k1):
    index, tokens, questions, _ = corpus
    oracle = LuceneOkapi(tokens, k1=k1, b=b)
    searcher = Searcher(index, b, k1)
    for question in questions[::4] + questions[-2:]:
        same_top(searcher.rank(question, 100), oracle.get_scores(analyse(question)) / (k1 + 1))


@pytest.mark.parametrize(("b", "k1"), PARAMETERS)
@pytest.mark.parametrize("k", [1, 7, 100, 800])
def test_scores_equal_numpys_sums_bit_for_bit_with_ties_by_row(corpus, b, k1, k):
    index, _, questions, _ = corpus
    searcher = Searcher(index, b, k1)
    for question in questions:
        scores = summed(index, question, b, k1)
        order = np.lexsort((np.arange(800), -scores))[: min(k, np.count_nonzero(scores))]
        ranking = searcher.rank(question, k)
        np.testing.assert_array_equal(ranking.passages, order)
        np.testing.assert_array_equal(ranking.scores, scores[order])


def summed(index, question, b, k1):
    """The scores of all passages, in numpy, term by term."""
    scores = np.zeros(len(index.lengths))
    norms = k1 * (1 - b + b * (index.lengths / index.average_length))
    for term, count in index.known(question):
        rows, frequencies = index.postings(term)
        idf = np.log(1 + (len(scores) - len(rows) + 0.5) / (len(rows) + 0.5))
        scores[rows] += idf * count * (frequencies / (frequencies + norms[rows]))
    return scores


def test_a_question_without_known_terms_finds_nothing(corpus):
    ranking = Searcher(corpus[0], 0.75, 1.2).rank("nothing, nowhere", 10)
    assert (len(ranking.passages), len(ranking.scores)) == (0, 0)


def test_a_search_covers_its_split(tmp_path):
    Dataset.from_dict({"title": ["Peru", "Chad", "Fiji"], "text": ["the sea", "the desert", "the sea"]}).save_to_disk(
        str(tmp_path / "passages")
    )
    split = lambda name, texts: Dataset.from_dict(  # noqa: E731
        {"id": [f"{name}{number}" for number in range(len(texts))], "input": texts}
    )
    DatasetDict(
        {"train": split("train", ["desert"]), "test": split("test", ["which sea?", "unheard of", "chad the sea"])}
    ).save_to_disk(str(tmp_path / "questions"))
    build(tmp_path / "passages", PLAIN, tmp_path / "index")
    write_json(tmp_path / "tuning.json", {"b": 0.75, "k1": 1.2})
    arguments = {"index": tmp_path / "index", "questions": tmp_path / "questions", "split": "test", "tag": "bm25"}
    search(**arguments, tuning=tmp_path / "tuning.json", k=2, out=tmp_path / "test.trec")
    run = read_run(tmp_path / "test.trec")
    assert {question: ranking.passages.tolist() for question, ranking in run.items()} == {
        "test0": [0, 2],
        "test2": [1, 0],
    }

    search(**arguments, settings=BM25(b=0.75, k1=1.2), k=2, out=tmp_path / "given.trec")
    assert (tmp_path / "given.trec").read_bytes() == (tmp_path / "test.trec").read_bytes()

    with pytest.raises(InputError, match="either --tuning or --settings"):
        search(**arguments, k=2, out=tmp_path / "none.trec")
    write_json(tmp_path / "broken.json", {"b": 0.75})
    with pytest.raises(InputError, match=r"broken\.json: k1 is not a number"):
        search(**arguments, tuning=tmp_path / "broken.json", k=2, out=tmp_path / "none.trec")
    assert not (tmp_path / "none.trec").exists()


@pytest.fixture
def asked(corpus, tmp_path):
    """The arguments of a search with the corpus' 40 questions."""
    DatasetDict(
        {"test": Dataset.from_dict({"id": [f"q{number}" for number in range(40)], "input": corpus[2]})}
    ).save_to_disk(str(tmp_path / "questions"))
    where = {"index": corpus[3], "questions": tmp_path / "questions", "split": "test"}
    return where | {"settings": BM25(b=0.4, k1=0.9), "k": 100, "tag": "bm25"}


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_neither_threads_nor_slices_change_the_run(asked, corpus, tmp_path, monkeypatch, threads):
    searcher = Searcher(corpus[0], 0.4, 0.9)
    write_run(
        tmp_path / "one.trec", {f"q{number}": searcher.rank(text, 100) for number, text in enumerate(corpus[2])}, "bm25"
    )
    for size in (7, 256):
        monkeypatch.setattr(searching, "SLICE", size)
        search(**asked, threads=threads, out=tmp_path / "test.trec")
        assert (tmp_path / "test.trec").read_bytes() == (tmp_path / "one.trec").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"questions", "one.trec", "test.trec"}


def test_threads_search_at_the_same_time(corpus, monkeypatch):
    both = threading.Barrier(2, timeout=20)
    monkeypatch.setattr(searching, "take_best", lambda scores, k: (both.wait(), take_best(scores, k))[1])
    assert len(list(Searcher(corpus[0], 0.4, 0.9, threads=2).rank_all(corpus[2], 10))) == 40


KILLED = """
import json, sys, time
from pathlib import Path
from vlret.lexical import search
from vlret.settings import BM25

search.SLICE, take_best, calls = 7, search.take_best, []
def slow(*arguments):
    calls.append(1)
    return take_best(*arguments) if len(calls) <= 17 else time.sleep(600)
search.take_best = slow
asked = json.loads(sys.argv[1])
paths = {name: Path(asked.pop(name)) for name in ("index", "questions", "out")}
search.search(**paths, **asked | {"settings": BM25(**asked["settings"])}, threads=2)
"""


def killed(asked, out):
    """Kill a search in its third slice of seven questions."""
    told = json.dumps(asked | {"settings": asked["settings"].model_dump(), "out": out}, default=str)
    process = subprocess.Popen([sys.executable, "-c", KILLED, told], start_new_session=True)
    second = out.with_name(f"{out.name}.unfinished") / "00000007.trec"
    while process.poll() is None and not second.is_file():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_killed_search_goes_on_behind_its_last_whole_slice(asked, tmp_path, monkeypatch, capsys):
    search(**asked, out=tmp_path / "undisturbed.trec")
    killed(asked, tmp_path / "test.trec")
    assert not (tmp_path / "test.trec").exists()
    monkeypatch.setattr(searching, "SLICE", 7)
    searched = []
    monkeypatch.setattr(searching, "take_best", lambda *given: searched.append(1) or take_best(*given))
    search(**asked, out=tmp_path / "test.trec")
    assert "resuming after 2 of 6 slices of 7 questions" in capsys.readouterr().err
    assert len(searched) == 40 - 14
    assert (tmp_path / "test.trec").read_bytes() == (tmp_path / "undisturbed.trec").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"questions", "undisturbed.trec", "test.trec"}


@pytest.mark.parametrize("changed", ["b", "k", "index", "questions"])
def test_a_search_does_not_resume_from_other_settings_or_inputs(asked, tmp_path, monkeypatch, capsys, changed):
    monkeypatch.setattr(searching, "SLICE", 7)
    stop = iter([None] * 17)
    with monkeypatch.context() as stopped:
        stopped.setattr(searching, "take_best", lambda *given: next(stop) or take_best(*given))
        with pytest.raises((StopIteration, RuntimeError)):
            search(**asked, threads=1, out=tmp_path / "test.trec")
    assert len(list((tmp_path / "test.trec.unfinished").glob("*.trec"))) == 2
    if changed == "b":
        asked |= {"settings": BM25(b=0.5, k1=0.9)}
    elif changed == "k":
        asked |= {"k": 50}
    elif changed == "index":
        shutil.copytree(asked["index"], tmp_path / "index")
        os.utime(tmp_path / "index" / "starts.npy", (1, 1))
        asked |= {"index": tmp_path / "index"}
    else:
        table = Dataset.from_dict({"id": [f"p{number}" for number in range(40)], "input": ["w1"] * 40})
        DatasetDict({"test": table}).save_to_disk(str(tmp_path / "others"))
        asked |= {"questions": tmp_path / "others"}
    search(**asked, out=tmp_path / "test.trec")
    assert "removed, since it was made with other settings" in capsys.readouterr().err
    search(**asked, out=tmp_path / "again.trec")
    assert (tmp_path / "test.trec").read_bytes() == (tmp_path / "again.trec").read_bytes()
