"""BM25 against a formula by hand, `bm25s` (variant Lucene) and `rank_bm25`."""

import math

import bm25s
import numpy as np
import pytest
import rank_bm25
from datasets import Dataset, DatasetDict

from vlret.files import InputError, write_json
from vlret.lexical.index import Index, analyse, build
from vlret.lexical.search import rank, search
from vlret.runs import read_run

PLAIN = {"stop_words": "none", "lengths": "exact"}
PARAMETERS = [(0.0, 0.0), (0.75, 1.2), (0.4, 0.9), (1.0, 3.0), (0.0, 2.0)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """800 passages of Zipf-distributed words, an index of them, and 40 questions, some words twice or unknown."""
    folder = tmp_path_factory.mktemp("lexical")
    generator = np.random.default_rng(0)
    words = [f"w{number}" for number in range(400)]
    chances = 1 / np.arange(1, 401)
    draw = lambda n: " ".join(generator.choice(words, size=n, p=chances / chances.sum()))  # noqa: E731
    texts = [draw(length) for length in generator.integers(3, 60, size=800)]
    Dataset.from_dict({"title": ["w7"] * 800, "text": texts}).save_to_disk(str(folder / "passages"))
    build(folder / "passages", PLAIN, folder / "index")
    questions = [draw(12) for _ in range(38)] + ["w3 w3 w3 unknown", "w399"]
    return Index(folder / "index"), [analyse(f"w7 {text}") for text in texts], questions


class LuceneOkapi(rank_bm25.BM25Okapi):
    """rank_bm25 with Lucene's idf, which is never negative; its scores keep the factor k1 + 1."""

    def _calc_idf(self, nd):
        for word, held in nd.items():
            self.idf[word] = math.log(1 + (self.corpus_size - held + 0.5) / (held + 0.5))


def same_top(ranking, expected, k=100):
    """Same scores to 1e-4 down the top k, and the same passages but for those tied with the last."""
    order = np.lexsort((np.arange(len(expected)), -expected))[:k]
    order = order[expected[order] > 0]
    np.testing.assert_allclose(ranking.scores, expected[order], atol=1e-4)
    np.testing.assert_allclose(expected[ranking.passages], ranking.scores, atol=1e-4)
    clear = expected[order] > expected[order][-1] + 1e-4
    assert set(order[clear]) <= set(ranking.passages.tolist())


def test_a_score_is_the_formula_by_hand(tmp_path):
    texts = ["sea sea salt", "salt", "land"]
    Dataset.from_dict({"title": ["a", "b", "c"], "text": texts}).save_to_disk(str(tmp_path / "passages"))
    build(tmp_path / "passages", PLAIN, tmp_path / "index")
    ranking = rank(Index(tmp_path / "index"), "salt, sea salt or none", 0.75, 1.2, 10)
    average = 8 / 3
    sea, salt = math.log(1 + 2.5 / 1.5), math.log(1 + 1.5 / 2.5)
    norms = [1.2 * (0.25 + 0.75 * length / average) for length in (4, 2)]
    first = sea * 2 / (2 + norms[0]) + 2 * salt * 1 / (1 + norms[0])
    assert ranking.passages.tolist() == [0, 1]
    np.testing.assert_allclose(ranking.scores, [first, 2 * salt / (1 + norms[1])], rtol=1e-14)


@pytest.mark.parametrize(("b", "k1"), PARAMETERS)
def test_bm25s_agrees(corpus, b, k1):
    index, tokens, questions = corpus
    oracle = bm25s.BM25(method="lucene", k1=k1, b=b)
    oracle.index(tokens, show_progress=False)
    for question in questions:
        words = [word for word in analyse(question) if word in oracle.vocab_dict]
        same_top(rank(index, question, b, k1, 100), oracle.get_scores(words))


@pytest.mark.parametrize(("b", "k1"), PARAMETERS[1:])  # with k1 = 0 it divides 0 by 0
def test_rank_bm25_agrees_up_to_its_constant(corpus, b, k1):
    index, tokens, questions = corpus
    oracle = LuceneOkapi(tokens, k1=k1, b=b)
    for question in questions[::4] + questions[-2:]:
        same_top(rank(index, question, b, k1, 100), oracle.get_scores(analyse(question)) / (k1 + 1))


def test_a_search_writes_the_questions_of_its_split(tmp_path):
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

    write_json(tmp_path / "broken.json", {"b": 0.75})
    with pytest.raises(InputError, match=r"broken\.json: k1 is not a number"):
        search(**arguments, tuning=tmp_path / "broken.json", k=2, out=tmp_path / "none.trec")
    assert not (tmp_path / "none.trec").exists()
