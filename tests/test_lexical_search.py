"""BM25 against the written-out formula, `bm25s` (variant Lucene) and `rank_bm25`."""

import math

import bm25s
import numpy as np
import pytest
import rank_bm25
from datasets import Dataset, DatasetDict

from vlret.files import InputError, write_json
from vlret.lexical.index import Index, analyse, build
from vlret.lexical.search import Searcher, search
from vlret.runs import read_run
from vlret.settings import BM25, Analysis

PLAIN = Analysis()
PARAMETERS = [(0.0, 0.0), (0.75, 1.2), (0.4, 0.9), (1.0, 3.0), (0.0, 2.0)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """800 passages of Zipf-distributed words, their index, and 40 questions, some with repeated or unknown words."""
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
    index, tokens, questions = corpus
    oracle = bm25s.BM25(method="lucene", k1=k1, b=b)
    oracle.index(tokens, show_progress=False)
    searcher = Searcher(index, b, k1)
    for question in questions:
        words = [word for word in analyse(question) if word in oracle.vocab_dict]
        same_top(searcher.rank(question, 100), oracle.get_scores(words))


@pytest.mark.parametrize(("b", "k1"), PARAMETERS[1:])  # k1 = 0 would divide 0 by 0
def test_rank_bm25_agrees_up_to_its_constant(corpus, b, k1):
    index, tokens, questions = corpus
    oracle = LuceneOkapi(tokens, k1=k1, b=b)
    searcher = Searcher(index, b, k1)
    for question in questions[::4] + questions[-2:]:
        same_top(searcher.rank(question, 100), oracle.get_scores(analyse(question)) / (k1 + 1))


@pytest.mark.parametrize(("b", "k1"), PARAMETERS)
@pytest.mark.parametrize("k", [1, 7, 100, 800])
def test_scores_equal_numpys_sums_bit_for_bit_with_ties_by_row(corpus, b, k1, k):
    index, _, questions = corpus
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
