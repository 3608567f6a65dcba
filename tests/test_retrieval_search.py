"""A FAISS run is what brute force gives, ties at the cut and all."""

import faiss
import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from vlret.files import InputError, write_json
from vlret.retrieval.index import build
from vlret.retrieval.search import Units, find, search
from vlret.runs import read_run

ARTICLES = 30


@pytest.fixture
def folder(tmp_path):
    """Three splits of questions, and passages of articles 0 to 29, of which some have none."""
    splits = {"train": ["b", "a"], "validation": ["d"], "test": ["c", "e"]}
    table = DatasetDict({split: Dataset.from_dict({"id": identifiers}) for split, identifiers in splits.items()})
    table.save_to_disk(str(tmp_path / "questions"))
    counts = np.random.default_rng(0).integers(0, 5, ARTICLES)
    articles = np.repeat(np.arange(ARTICLES), counts)
    Dataset.from_dict({"article": articles}).save_to_disk(str(tmp_path / "passages"))
    return tmp_path, articles


def run_search(folder, unit, questions, units, k, factory="Flat"):
    path, _ = folder
    np.save(path / "questions.npy", questions)
    np.save(path / "passages.npy", units)
    write_json(path / "embeddings.json", {"unit": unit})
    build(path, factory, path / "i.faiss")
    where = {"questions_embeddings": path / "questions.npy", "questions": path / "questions"}
    search(path / "i.faiss", path, **where, passages=path / "passages", k=k, tag="toy", out=path / "run.trec")
    return read_run(path / "run.trec")


def brute_force(question, units, passages_of, k):
    """Every passage of every unit that has a vector, sorted by (-score, row)."""
    scored = []
    for unit, vector in enumerate(units):
        if not np.isnan(vector).any():
            score = float(np.float32(sum(float(a) * float(b) for a, b in zip(question, vector, strict=True))))
            scored += [(-score, passage) for passage in passages_of(unit)]
    return [(passage, -score) for score, passage in sorted(scored)[:k]]


def assert_same(run, questions, units, passages_of, k):
    assert list(run) == ["b", "a", "d", "c", "e"]
    for question, ranking in zip(questions, run.values(), strict=True):
        expected = brute_force(question, units, passages_of, k)
        assert ranking.passages.tolist() == [passage for passage, _ in expected]
        np.testing.assert_allclose(ranking.scores, [score for _, score in expected], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("k", [1, 7, 1000])
def test_passages_against_brute_force(folder, k):
    rng = np.random.default_rng(1)
    rows = len(folder[1])
    questions = rng.standard_normal((5, 16)).astype(np.float32)
    units = rng.standard_normal((rows, 16)).astype(np.float32)
    assert_same(run_search(folder, "passage", questions, units, k), questions, units, lambda unit: [unit], k)


@pytest.mark.parametrize("k", [1, 2, 10, 1000])
def test_articles_map_to_their_passages_in_order(folder, k):
    rng = np.random.default_rng(2)
    questions = rng.integers(-2, 3, (5, 4)).astype(np.float32)
    units = rng.integers(-2, 3, (ARTICLES, 4)).astype(np.float32)
    units[[3, 17]] = np.nan
    run = run_search(folder, "article", questions, units, k)
    assert_same(run, questions, units, lambda unit: np.flatnonzero(folder[1] == unit).tolist(), k)


@pytest.mark.parametrize("k", range(1, 12))
def test_ties_at_the_cut_are_broken_by_passage_row(folder, k):
    """Scores of a few values over all the passages, so that every cut falls among equal ones."""
    rng = np.random.default_rng(k)
    questions = rng.integers(0, 2, (5, 3)).astype(np.float32)
    units = rng.integers(0, 2, (len(folder[1]), 3)).astype(np.float32)
    assert_same(run_search(folder, "passage", questions, units, k), questions, units, lambda unit: [unit], k)


def test_a_tie_wider_than_the_first_look_into_the_index():
    """Equal vectors far apart: FAISS may name any of them, the run must name the first."""
    rng = np.random.default_rng(3)
    units = rng.standard_normal((5000, 48)).astype(np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    equal = np.sort(rng.choice(5000, 700, replace=False))
    units[equal] = units[equal[0]]
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(48))
    index.add_with_ids(units[::-1].copy(), np.arange(5000)[::-1].copy())
    questions = np.concatenate([units[equal[:1]], units[:3]])
    rankings = find(index, Units(units, np.arange(5001)), questions, 10)
    assert rankings[0].passages.tolist() == equal[:10].tolist()
    assert len(set(rankings[0].scores.tolist())) == 1
    for question, ranking in zip(questions[1:], rankings[1:], strict=True):
        expected = np.lexsort((np.arange(5000), -(units @ question).astype(np.float64)))[:10]
        assert ranking.passages[0] == expected[0]
        assert len(ranking.passages) == 10


def test_articles_without_passages_do_not_use_up_the_depth():
    rng = np.random.default_rng(4)
    units, question = rng.standard_normal((600, 8)).astype(np.float32), rng.standard_normal(8).astype(np.float32)
    order = np.argsort(-(units @ question))
    counts = np.zeros(600, np.int64)
    counts[order[300:]] = 2
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(8))
    index.add_with_ids(units, np.arange(600))
    first = np.concatenate([[0], np.cumsum(counts)])
    (ranking,) = find(index, Units(units, first), question[None], 5)
    expected = [row for unit in order[300:303] for row in (first[unit], first[unit] + 1)]
    assert ranking.passages.tolist() == expected[:5]


def test_higher_is_better_and_length_counts(folder):
    units = np.zeros((len(folder[1]), 2), np.float32)
    units[[4, 9]] = [[1, 0], [3, 0]]
    questions = np.tile(np.float32([[1, 0]]), (5, 1))
    ranking = run_search(folder, "passage", questions, units, 3)["a"]
    assert ranking.passages.tolist() == [9, 4, 0]
    assert ranking.scores.tolist() == [3, 1, 0]


def test_a_question_without_vector_finds_nothing(folder):
    rng = np.random.default_rng(4)
    questions = rng.standard_normal((5, 4)).astype(np.float32)
    questions[1] = np.nan
    run = run_search(folder, "passage", questions, rng.standard_normal((len(folder[1]), 4)).astype(np.float32), 3)
    assert list(run) == ["b", "d", "c", "e"]


def test_an_approximate_index_proposes_and_the_vectors_decide(folder):
    rng = np.random.default_rng(5)
    questions = rng.standard_normal((5, 8)).astype(np.float32)
    units = rng.standard_normal((len(folder[1]), 8)).astype(np.float32)
    run = run_search(folder, "passage", questions, units, 5, "SQ8")
    exact = questions.astype(np.float64) @ units.T.astype(np.float64)
    for scores, ranking in zip(exact, run.values(), strict=True):
        np.testing.assert_allclose(ranking.scores, scores[ranking.passages], rtol=1e-5)


def test_the_same_bytes_each_time(folder):
    rng = np.random.default_rng(6)
    questions = rng.standard_normal((5, 4)).astype(np.float32)
    units = rng.standard_normal((len(folder[1]), 4)).astype(np.float32)
    runs = []
    for _ in range(2):
        run_search(folder, "passage", questions, units, 5)
        runs.append((folder[0] / "run.trec").read_bytes())
    assert runs[0] == runs[1]


def test_parts_that_do_not_fit(folder):
    path, articles = folder
    rows = len(articles)
    fits = (np.ones((5, 4), np.float32), np.ones((rows, 4), np.float32))
    for unit, questions, units, message in [
        ("passage", fits[0][:3], fits[1], "3 vectors, but 5 questions"),
        ("passage", fits[0], fits[1][:-1], f"{rows - 1} vectors, but {rows} passages"),
        ("passage", fits[0][:, :3], fits[1], "dimensions"),
        ("article", fits[0], fits[1][:5], "5 articles, but"),
        ("sentence", fits[0], fits[1], "expected passage or article"),
    ]:
        with pytest.raises(InputError, match=message):
            run_search(folder, unit, questions, units, 3)
        assert not (path / "run.trec").exists()
    run_search(folder, "passage", *fits, 3)
    np.save(path / "passages.npy", np.ones((ARTICLES, 4), np.float32))
    write_json(path / "embeddings.json", {"unit": "article"})
    where = {"questions_embeddings": path / "questions.npy", "questions": path / "questions"}
    with pytest.raises(InputError, match=f"{rows} vectors, but {ARTICLES}"):
        search(path / "i.faiss", path, **where, passages=path / "passages", k=3, tag="toy", out=path / "other.trec")
    (path / "i.faiss").write_bytes(b"no index")
    for name, message in [("i.faiss", "not a FAISS index"), ("gone.faiss", "no such file")]:
        with pytest.raises(InputError, match=message):
            search(path / name, path, **where, passages=path / "passages", k=3, tag="toy", out=path / "run.trec")
