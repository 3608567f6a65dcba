"""Runs equal brute force, including ties at the cut; index search is measured against it."""

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from shards import write_shard

from vlret.files import InputError, read_json, remove
from vlret.retrieval.index import build
from vlret.retrieval.search import recall, search
from vlret.runs import Ranking, read_run

ARTICLES = 30


@pytest.fixture
def folder(tmp_path):
    """Three splits of questions, and passages of articles 0 to 29, some of which have none."""
    splits = {"train": ["b", "a"], "validation": ["d"], "test": ["c", "e"]}
    table = DatasetDict({split: Dataset.from_dict({"id": identifiers}) for split, identifiers in splits.items()})
    table.save_to_disk(str(tmp_path / "questions"))
    counts = np.random.default_rng(0).integers(0, 5, ARTICLES)
    articles = np.repeat(np.arange(ARTICLES), counts)
    Dataset.from_dict({"article": articles}).save_to_disk(str(tmp_path / "passages"))
    return tmp_path, articles


def search_in(path, k, index=None, parameters=None):
    where = {"questions_embeddings": path / "questions.npy", "questions": path / "questions"}
    results = {"out": path / "run.trec", "report": path / "run.json"}
    search(index, parameters, [path / "shard"], **where, passages=path / "passages", k=k, seed=0, tag="toy", **results)
    return read_run(path / "run.trec")


def replaced(path, units, unit):
    remove(path / "shard")
    write_shard(path / "shard", units, unit)


def run_search(folder, unit, questions, units, k, factory=None, parameters=None):
    path, _ = folder
    np.save(path / "questions.npy", questions)
    replaced(path, units, unit)
    if factory:
        build([path / "shard"], factory, 0, path / "i.faiss")
    return search_in(path, k, path / "i.faiss" if factory else None, parameters)


def brute_force(question, units, passages_of, k):
    """Every passage of every unit with a vector, sorted by (-score, row)."""
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
def test_articles_expand_to_their_passages_in_order(folder, k):
    rng = np.random.default_rng(2)
    questions = rng.integers(-2, 3, (5, 4)).astype(np.float32)
    units = rng.integers(-2, 3, (ARTICLES, 4)).astype(np.float32)
    units[[3, 17]] = np.nan
    run = run_search(folder, "article", questions, units, k)
    assert_same(run, questions, units, lambda unit: np.flatnonzero(folder[1] == unit).tolist(), k)


@pytest.mark.parametrize("k", range(1, 12))
def test_ties_at_the_cut_are_broken_by_passage_row(folder, k):
    """Few distinct scores over all passages, so that every cut falls within a tie."""
    rng = np.random.default_rng(k)
    questions = rng.integers(0, 2, (5, 3)).astype(np.float32)
    units = rng.integers(0, 2, (len(folder[1]), 3)).astype(np.float32)
    assert_same(run_search(folder, "passage", questions, units, k), questions, units, lambda unit: [unit], k)


def test_higher_is_better_and_length_counts(folder):
    units = np.zeros((len(folder[1]), 2), np.float32)
    units[[4, 9]] = [[1, 0], [3, 0]]
    questions = np.tile(np.float32([[1, 0]]), (5, 1))
    ranking = run_search(folder, "passage", questions, units, 3)["a"]
    assert ranking.passages.tolist() == [9, 4, 0]
    assert ranking.scores.tolist() == [3, 1, 0]


def test_a_question_without_vector_has_an_empty_ranking(folder):
    rng = np.random.default_rng(4)
    questions = rng.standard_normal((5, 4)).astype(np.float32)
    questions[1] = np.nan
    run = run_search(folder, "passage", questions, rng.standard_normal((len(folder[1]), 4)).astype(np.float32), 3)
    assert list(run) == ["b", "d", "c", "e"]


@pytest.mark.parametrize("factory", ["SQ8", "IVF2,Flat", "IVF2,PQ2x4", "HNSW8", "PQ4x4"])
def test_an_approximate_index_proposes_and_exact_scores_rank(folder, factory):
    rng = np.random.default_rng(5)
    questions = rng.standard_normal((5, 8)).astype(np.float32)
    units = rng.standard_normal((len(folder[1]), 8)).astype(np.float32)
    units[3] = np.nan
    run = run_search(folder, "passage", questions, units, 5, factory)
    scores = questions.astype(np.float64) @ units.T.astype(np.float64)
    for own, ranking in zip(scores, run.values(), strict=True):
        assert len(ranking.passages) == 5
        np.testing.assert_allclose(ranking.scores, own[ranking.passages], rtol=1e-5)
    report = read_json(folder[0] / "run.json")
    best = np.sort(np.nan_to_num(scores, nan=-9))[:, -5:]
    found = [ranking.scores.astype(np.float32) for ranking in run.values()]
    by_hand = [np.isin(own, of.astype(np.float32)).mean() for own, of in zip(found, best, strict=True)]
    assert report["recall@5"] == pytest.approx(np.mean(by_hand))
    assert (report["exact"], report["questions"]) == (False, 5)


def test_search_parameters_matter(folder):
    rng = np.random.default_rng(6)
    questions = rng.standard_normal((5, 8)).astype(np.float32)
    units = rng.standard_normal((len(folder[1]), 8)).astype(np.float32)
    recalls = []
    for parameters in ("nprobe=1", "nprobe=4", "nprobe=8"):
        run = run_search(folder, "passage", questions, units, 5, "IVF8,Flat", parameters)
        recalls.append(read_json(folder[0] / "run.json")["recall@5"])
    assert recalls[0] < recalls[1] <= recalls[2] == 1
    assert_same(run, questions, units, lambda unit: [unit], 5)
    with pytest.raises(InputError, match=r"parameters: 'nprob=8' cannot be set on .*i\.faiss"):
        search_in(folder[0], 5, folder[0] / "i.faiss", "nprob=8")


def test_invalid_parameters_are_a_one_line_error_with_the_field(folder):
    rng = np.random.default_rng(6)
    questions = rng.standard_normal((5, 8)).astype(np.float32)
    units = rng.standard_normal((len(folder[1]), 8)).astype(np.float32)
    run_search(folder, "passage", questions, units, 5, "IVF8,Flat", "nprobe=8, verbose=0")
    wrong = ("0", "-1", "1.5", "nan", "1_0", "99999999999999999999", "", "٣")
    for parameters in [
        *(f"nprobe={value}" for value in wrong),
        "verbose=0, nprobe=0",
        "quantizer_efSearch=0",
        "nprobe",
    ]:
        with pytest.raises(InputError, match=r"^retrieval\.parameters: .* expected a positive integer$"):
            search_in(folder[0], 5, folder[0] / "i.faiss", parameters)
    (folder[0] / "run.trec").unlink()
    with pytest.raises(InputError, match=r"^retrieval\.parameters: 'nprobe=1': only .* too few for 40 passages"):
        search_in(folder[0], 40, folder[0] / "i.faiss", "nprobe=1")
    assert not (folder[0] / "run.trec").exists()
    assert all(len(ranking.passages) == 40 for ranking in search_in(folder[0], 40, None).values())
    search_in(folder[0], 10**6, folder[0] / "i.faiss", "nprobe=8")


def test_faiss_search_errors_are_one_line(folder, monkeypatch):
    rng = np.random.default_rng(6)
    questions = rng.standard_normal((5, 8)).astype(np.float32)
    units = rng.standard_normal((len(folder[1]), 8)).astype(np.float32)
    run_search(folder, "passage", questions, units, 5, "IVF8,Flat", "nprobe=8")
    monkeypatch.setattr("vlret.retrieval.index._check", lambda parameters: None)
    with pytest.raises(InputError, match=r"^retrieval\.parameters: 'nprobe=0': search failed: ") as caught:
        search_in(folder[0], 5, folder[0] / "i.faiss", "nprobe=0")
    assert "\n" not in str(caught.value)


def test_more_articles_are_requested_if_they_have_too_few_passages(folder):
    rng = np.random.default_rng(7)
    questions = rng.standard_normal((5, 4)).astype(np.float32)
    units = rng.standard_normal((ARTICLES, 4)).astype(np.float32)
    path, articles = folder
    articles = np.repeat(np.arange(24, ARTICLES), 4)
    Dataset.from_dict({"article": articles}).save_to_disk(str(path / "few"))
    (path / "passages").rename(path / "many")
    (path / "few").rename(path / "passages")
    run = run_search(folder, "article", questions, units, 2, "IVF1,Flat")
    assert_same(run, questions, units, lambda unit: np.flatnonzero(articles == unit).tolist(), 2)


def test_exact_search_is_reported(folder):
    run_search(folder, "passage", np.ones((5, 4), np.float32), np.ones((len(folder[1]), 4), np.float32), 3)
    stored = {"dtype": "float32", "units": len(folder[1]), "recall@3": 1.0}
    encoded = {"trained": None, "precision": "fp32", "stored": "float32"}
    expected = {"exact": True, "recall@3": 1.0, "questions": 5, "encoded": encoded, "stored": stored}
    assert read_json(folder[0] / "run.json") == expected


def test_recall_counts_ties():
    def ranking(*scores):
        return Ranking(np.arange(len(scores)), np.array(scores, dtype=float))

    best = [ranking(5, 4, 3, 3), ranking(2, 1), ranking()]
    assert recall([ranking(5, 3, 3, 3), ranking(2, 0.5), ranking()], best) == pytest.approx((1 + 1 / 2) / 2)
    assert recall([ranking(5), ranking(), ranking()], best) == pytest.approx((1 / 4 + 0) / 2)


def test_the_same_bytes_each_time(folder):
    rng = np.random.default_rng(6)
    questions = rng.standard_normal((5, 4)).astype(np.float32)
    units = rng.standard_normal((len(folder[1]), 4)).astype(np.float32)
    runs = []
    for _ in range(2):
        run_search(folder, "passage", questions, units, 5)
        runs.append((folder[0] / "run.trec").read_bytes())
    assert runs[0] == runs[1]


def test_mismatched_inputs_are_rejected(folder):
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
    run_search(folder, "passage", *fits, 3, "SQ8")
    replaced(path, np.ones((ARTICLES, 4), np.float32), "article")
    with pytest.raises(InputError, match=f"vector {rows - 1}, but {ARTICLES}"):
        search_in(path, 3, path / "i.faiss")
    replaced(path, np.ones((ARTICLES, 5), np.float32), "article")
    np.save(path / "questions.npy", np.ones((5, 5), np.float32))
    with pytest.raises(InputError, match="have 5, 5, 4 dimensions"):
        search_in(path, 3, path / "i.faiss")
    (path / "i.faiss").write_bytes(b"no index")
    for name, message in [("i.faiss", "not an index"), ("gone.faiss", "no such file")]:
        with pytest.raises(InputError, match=message):
            search_in(path, 3, path / name)
