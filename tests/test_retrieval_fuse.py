"""Fusion equals the published weighted sum, and on validation is never worse than its best run."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vlret.files import InputError, read_json
from vlret.retrieval.fuse import (
    _interpolated,
    fuse,
    fused,
    normalised,
    reciprocal_ranks,
    weight_grid,
    weighted_sum,
)
from vlret.runs import Ranking, per_question, read_run, sort_ranking, write_qrels, write_run
from vlret.settings import RRF, Interpolation

SETTINGS = Interpolation(runs=["one", "two"], method="interpolation", normalisation="zmuv", step=0.05)
NORMALISATIONS = ("zmuv", "min-max", "rank", "none")
DATA = Path(__file__).parent / "data"
PARITY, MEERQAT = (
    json.loads((DATA / f"fusion_{name}.json").read_text(encoding="utf-8")) for name in ("viquae", "meerqat")
)


def ranking(scores: dict[int, float]) -> Ranking:
    return sort_ranking(np.array(list(scores), np.int64), np.array(list(scores.values())))


def random_run(seed: int, questions: int = 20, passages: int = 40, depth: int = 12) -> dict[str, Ranking]:
    rng = np.random.default_rng(seed)
    return {
        f"q{number}": sort_ranking(rng.choice(passages, depth, replace=False), rng.integers(0, 9, depth) * (seed + 1.0))
        for number in range(questions)
    }


def reference(rankings, weights, normalisation="zmuv"):
    """Reference with dictionaries: fill with the minimum, normalise, add."""
    rankings = [dict(zip(r.passages.tolist(), r.scores.tolist(), strict=True)) for r in rankings]
    if normalisation == "rank":
        rankings = [{passage: 1 - place / len(r) for place, passage in enumerate(r)} for r in rankings]
    union = sorted({passage for scores in rankings for passage in scores})
    total = dict.fromkeys(union, 0.0)
    for scores, weight in zip(rankings, weights, strict=True):
        filled = [scores.get(passage, min(scores.values())) for passage in union]
        mean = sum(filled) / len(filled)
        deviation = (sum((score - mean) ** 2 for score in filled) / len(filled)) ** 0.5
        low, high = min(filled), max(filled)
        normal = {
            "zmuv": lambda score, of=(mean, deviation): (score - of[0]) / max(of[1], 1e-9),
            "min-max": lambda score, of=(low, high): (score - of[0]) / (of[1] - of[0]),
        }.get(normalisation, lambda score: score)
        for passage, score in zip(union, filled, strict=True):
            total[passage] += weight * normal(score)
    return total


def interpolated(weights, k):
    return partial(_interpolated, weights=weights, normalisation="zmuv", k=k)


@pytest.fixture
def write(tmp_path):
    def write(parts: dict[str, dict], qrels: dict, k=100, settings=SETTINGS):
        for name, run in parts.items():
            write_run(tmp_path / f"{name}.trec", run, name)
        write_qrels(tmp_path / "qrels.trec", qrels)
        paths = [tmp_path / f"{name}.trec" for name in parts]
        out, report = tmp_path / "out.trec", tmp_path / "out.json"
        fuse(paths, tmp_path / "qrels.trec", settings, k, "fusion", out, report)
        return read_run(out), read_json(report)

    return write


@pytest.mark.parametrize("case", PARITY, ids=range(len(PARITY)))
def test_the_published_fusion(case):
    for question, expected in case["out"].items():
        rankings = [
            ranking({int(passage[1:]): score for passage, score in run[question].items()}) for run in case["runs"]
        ]
        result = weighted_sum(rankings, case["weights"], case["normalisation"], 100)
        found = dict(zip((f"d{passage}" for passage in result.passages), result.scores, strict=True))
        assert found.keys() == expected.keys()
        for passage, score in expected.items():
            assert found[passage] == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("case", MEERQAT, ids=range(len(MEERQAT)))
def test_the_older_published_fusion_of_plain_scores(case):
    for question, (passages, scores) in enumerate(case["out"]):
        rankings = [sort_ranking(*map(np.array, run[question])) for run in case["runs"]]
        result = weighted_sum(rankings, case["weights"], "none", case["k"])
        assert result.passages.tolist() == passages
        np.testing.assert_allclose(result.scores, scores, atol=1e-12)


def as_ranx(run, name):
    from ranx import Run

    ranked = {
        question: dict(zip(map(str, found.passages.tolist()), found.scores.tolist(), strict=True))
        for question, found in run.items()
    }
    return Run.from_dict(ranked, name=name)


@pytest.mark.parametrize("normalisation", ["zmuv", "min-max", "rank"])
def test_normalisation_equals_ranxs(normalisation):
    """Over a ranking's own passages, as ranx ignores missing ones in a fusion."""
    from ranx.normalization import min_max_norm, rank_norm, zmuv_norm

    rng = np.random.default_rng(0)
    run = {"q0": sort_ranking(rng.choice(99, 20, replace=False), rng.normal(size=20))}
    norm = {"zmuv": zmuv_norm, "min-max": min_max_norm, "rank": rank_norm}[normalisation]
    expected = norm(as_ranx(run, "run")).to_dict()["q0"]
    passages = np.sort(run["q0"].passages)
    found = dict(zip(map(str, passages), normalised(run["q0"], passages, normalisation), strict=True))
    assert found == pytest.approx(dict(expected), abs=1e-12)


def test_reciprocal_rank_fusion_equals_ranxs():
    from ranx import fuse as theirs

    rng = np.random.default_rng(1)
    runs = [
        {f"q{number}": sort_ranking(rng.choice(40, 15, replace=False), rng.normal(size=15)) for number in range(9)}
        for _ in range(3)
    ]
    expected = theirs([as_ranx(run, str(place)) for place, run in enumerate(runs)], method="rrf", params={"k": 60})
    for question, scores in expected.to_dict().items():
        result = reciprocal_ranks([run[question] for run in runs], 60, 100)
        found = dict(zip(map(str, result.passages), result.scores, strict=True))
        assert found == pytest.approx(dict(scores), abs=1e-15)


def test_reciprocal_ranks_by_hand(write):
    """For (1, 2) and (2, 3): 1/61 for 1, 1/62 + 1/61 for 2, 1/62 for 3."""
    parts = {
        "one": {"q0": ranking({1: 9.0, 2: 5.0}), "q1": ranking({7: 1.0})},
        "two": {"q0": ranking({2: 0.5, 3: 0.1})},
    }
    run, report = write(parts, {"q0": {2}, "q1": {8}}, settings=RRF(runs=["one", "two"], method="rrf", constant=60))
    assert run["q0"].passages.tolist() == [2, 1, 3]
    assert run["q0"].scores.tolist() == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62], abs=1e-15)
    assert run["q1"].passages.tolist() == [7]
    assert report["mrr@100"] == 0.5
    assert report["parts"] == {"one": 0.25, "two": 0.5}
    assert (report["method"], report["constant"]) == ("rrf", 60)
    assert "weights" not in report


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_every_normalisation_is_tuned(write, normalisation):
    qrels = {f"q{number}": {number, number + 20} for number in range(20)}
    settings = SETTINGS.model_copy(update={"normalisation": normalisation})
    _, report = write({"one": random_run(0), "two": random_run(1)}, qrels, settings=settings)
    assert report["normalisation"] == normalisation
    assert report["mrr@100"] >= max(report["parts"].values())


def test_runs_may_be_compressed(tmp_path):
    for name, seed in (("one.trec.gz", 0), ("two.trec", 1)):
        write_run(tmp_path / name, random_run(seed), "x")
    write_qrels(tmp_path / "qrels.trec", {"q1": {3}})
    paths = [tmp_path / "one.trec.gz", tmp_path / "two.trec"]
    fuse(paths, tmp_path / "qrels.trec", SETTINGS, 9, "fusion", tmp_path / "out.trec.gz", tmp_path / "out.json")
    assert read_json(tmp_path / "out.json")["weights"].keys() == {"one", "two"}
    assert len(read_run(tmp_path / "out.trec.gz")["q1"].passages) == 9


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_against_the_definition_and_cut_at_k(normalisation):
    for seed in range(10):
        rankings = [random_run(seed + 10 * part)["q0"] for part in range(3)]
        weights = [0.2, 0.5, 0.3]
        expected = reference(rankings, weights, normalisation)
        result = weighted_sum(rankings, weights, normalisation, 7)
        assert len(result.passages) == 7
        for passage, score in zip(result.passages.tolist(), result.scores.tolist(), strict=True):
            assert score == pytest.approx(expected[passage], abs=1e-12)
        assert result.scores[-1] >= sorted(expected.values())[-7] - 1e-9


def test_a_missing_passage_gets_the_lowest_score():
    result = weighted_sum([ranking({1: 9.0, 2: 5.0}), ranking({1: 0.5, 3: 0.1})], [0.5, 0.5], "zmuv", 10)
    assert result.passages.tolist() == [1, 2, 3]
    assert result.scores[1] == result.scores[2]


def test_an_empty_run_adds_nothing():
    one, none = random_run(0)["q0"], Ranking(np.empty(0, np.int64), np.empty(0))
    alone = weighted_sum([one, none], [0.5, 0.5], "zmuv", 100)
    assert alone.passages.tolist() == one.passages.tolist()
    assert len(weighted_sum([none, none], [0.5, 0.5], "zmuv", 100).passages) == 0
    run = fused([{"a": one}, {"b": one}], ["a", "b", "c"], interpolated([0.5, 0.5], 100))
    assert [len(run[question].passages) for question in "abc"] == [12, 12, 0]


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_equal_scores_do_not_divide_by_zero(normalisation):
    flat = ranking({1: 2.0, 2: 2.0, 3: 2.0})
    result = weighted_sum([flat, ranking({3: 1.0, 2: 0.5, 1: 0.0})], [0.4, 0.6], normalisation, 3)
    assert result.passages.tolist() == [3, 2, 1]
    assert np.isfinite(result.scores).all()


def test_the_grid_holds_the_corners_and_sums_to_one():
    for parts, points in [(2, 21), (3, 231)]:
        grid = list(weight_grid(parts, 0.05))
        assert len(set(grid)) == len(grid) == points
        assert all(sum(weights) == pytest.approx(1) and min(weights) >= 0 for weights in grid)
        assert {tuple(map(float, corner)) for corner in np.eye(parts)} <= set(grid)
    with pytest.raises(InputError, match="does not divide 1"):
        list(weight_grid(2, 0.3))


@pytest.mark.parametrize("k", [5, 100])
def test_a_corner_is_the_single_run(k):
    parts = [random_run(0), random_run(1)]
    for place, weights in enumerate(([1.0, 0.0], [0.0, 1.0])):
        run = fused(parts, parts[0], interpolated(weights, k))
        for question, alone in parts[place].items():
            assert run[question].passages.tolist() == alone.passages[:k].tolist()


@pytest.mark.parametrize("seed", range(6))
def test_never_worse_on_validation_than_the_best_run(write, seed):
    """The second run or both are noise, for which tuning may choose a single run."""
    rng = np.random.default_rng(seed)
    parts = {"one": random_run(seed), "two": random_run(seed + 50)}
    qrels = {f"q{number}": {int(passage) for passage in rng.choice(40, 2)} for number in range(20)}
    run, report = write(parts, qrels)
    values = {name: per_question(part, qrels, ["mrr@100"])["mrr@100"].mean() for name, part in parts.items()}
    achieved = per_question(run, qrels, ["mrr@100"])["mrr@100"].mean()
    assert achieved >= max(values.values())
    assert report["mrr@100"] == pytest.approx(achieved, abs=1e-15)
    assert report["parts"] == pytest.approx(values)
    assert max(point["mrr@100"] for point in report["surface"]) == report["mrr@100"]
    assert len(report["surface"]) == 21


def test_a_useless_run_gets_no_weight_and_complementary_runs_share(write):
    qrels = {f"q{number}": {number} for number in range(20)}
    good = {question: ranking({int(question[1:]): 9.0, 31: 8.9, 30: 0.0}) for question in qrels}
    bad = {question: ranking({row: 9.0 - place for place, row in enumerate([31, 32, 30])}) for question in qrels}
    run, report = write({"bad": bad, "good": good}, qrels)
    assert report["mrr@100"] == 1
    assert report["weights"]["good"] > report["weights"]["bad"]
    # each of two runs ranks the relevant passage second, behind a different wrong one
    halves = [
        {question: ranking({20 + part: 3.0, int(question[1:]): 2.9, 25 + part: 0.0}) for question in qrels}
        for part in range(2)
    ]
    run, report = write({"left": halves[0], "right": halves[1]}, qrels)
    assert report["parts"] == {"left": 0.5, "right": 0.5}
    assert report["mrr@100"] == 1
    assert report["weights"] == {"left": 0.5, "right": 0.5}
    assert run["q7"].passages[0] == 7


def test_questions_of_all_splits_are_fused_and_only_validation_tunes(write):
    parts = {"one": random_run(0, questions=12), "two": random_run(1, questions=15)}
    qrels = {"q1": {3}, "q2": set(), "q99": {4}}
    run, report = write(parts, qrels, k=6)
    assert list(run) == list(parts["two"])
    assert {len(found.passages) for found in run.values()} == {6}
    assert report["questions"] == 3


def test_fusion_needs_two_runs(write, tmp_path):
    with pytest.raises(InputError, match="two or more"):
        write({"one": random_run(0)}, {"q1": {3}})
    assert not (tmp_path / "out.trec").exists()
