"""Fusion is the weighted sum of the literature, and never worse on validation than its best part."""

import json
from pathlib import Path

import numpy as np
import pytest

from vlret.files import InputError, read_json
from vlret.retrieval.fuse import fuse, fused, weight_grid, weighted_sum
from vlret.runs import Ranking, per_question, read_run, sort_ranking, write_qrels, write_run

SETTINGS = {"normalisation": "zmuv", "step": 0.05}
PARITY = json.loads((Path(__file__).parent / "data/fusion_viquae.json").read_text(encoding="utf-8"))


def ranking(scores: dict[int, float]) -> Ranking:
    return sort_ranking(np.array(list(scores), np.int64), np.array(list(scores.values())))


def random_run(seed: int, questions: int = 20, passages: int = 40, depth: int = 12) -> dict[str, Ranking]:
    rng = np.random.default_rng(seed)
    return {
        f"q{number}": sort_ranking(rng.choice(passages, depth, replace=False), rng.integers(0, 9, depth) * (seed + 1.0))
        for number in range(questions)
    }


def by_hand(rankings, weights):
    """The definition with dictionaries: fill with the minimum, normalise, add."""
    rankings = [dict(zip(r.passages.tolist(), r.scores.tolist(), strict=True)) for r in rankings]
    union = sorted({passage for scores in rankings for passage in scores})
    total = dict.fromkeys(union, 0.0)
    for scores, weight in zip(rankings, weights, strict=True):
        filled = [scores.get(passage, min(scores.values())) for passage in union]
        mean = sum(filled) / len(filled)
        deviation = (sum((score - mean) ** 2 for score in filled) / len(filled)) ** 0.5
        for passage, score in zip(union, filled, strict=True):
            total[passage] += weight * (score - mean) / max(deviation, 1e-9)
    return total


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
        result = weighted_sum(rankings, case["weights"], 100)
        found = dict(zip((f"d{passage}" for passage in result.passages), result.scores, strict=True))
        assert found.keys() == expected.keys()
        for passage, score in expected.items():
            assert found[passage] == pytest.approx(score, abs=1e-12)


def test_against_the_definition_and_cut_at_k():
    for seed in range(10):
        rankings = [random_run(seed + 10 * part)["q0"] for part in range(3)]
        weights = [0.2, 0.5, 0.3]
        expected = by_hand(rankings, weights)
        result = weighted_sum(rankings, weights, 7)
        assert len(result.passages) == 7
        for passage, score in zip(result.passages.tolist(), result.scores.tolist(), strict=True):
            assert score == pytest.approx(expected[passage], abs=1e-12)
        assert result.scores[-1] >= sorted(expected.values())[-7] - 1e-9


def test_a_passage_that_a_run_lacks_counts_as_its_worst():
    result = weighted_sum([ranking({1: 9.0, 2: 5.0}), ranking({1: 0.5, 3: 0.1})], [0.5, 0.5], 10)
    assert result.passages.tolist() == [1, 2, 3]
    assert result.scores[1] == result.scores[2]


def test_a_run_without_results_adds_nothing():
    one, none = random_run(0)["q0"], Ranking(np.empty(0, np.int64), np.empty(0))
    alone = weighted_sum([one, none], [0.5, 0.5], 100)
    assert alone.passages.tolist() == one.passages.tolist()
    assert len(weighted_sum([none, none], [0.5, 0.5], 100).passages) == 0
    run = fused([{"a": one}, {"b": one}], [0.5, 0.5], ["a", "b", "c"], 100)
    assert [len(run[question].passages) for question in "abc"] == [12, 12, 0]


def test_scores_that_are_all_equal_do_not_divide_by_zero():
    flat = ranking({1: 2.0, 2: 2.0, 3: 2.0})
    result = weighted_sum([flat, ranking({3: 1.0, 2: 0.5, 1: 0.0})], [0.5, 0.5], 3)
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
def test_a_corner_is_the_part_itself(k):
    parts = [random_run(0), random_run(1)]
    for place, weights in enumerate(([1.0, 0.0], [0.0, 1.0])):
        run = fused(parts, weights, parts[0], k)
        for question, alone in parts[place].items():
            assert run[question].passages.tolist() == alone.passages[:k].tolist()


@pytest.mark.parametrize("seed", range(6))
def test_never_worse_on_validation_than_the_best_part(write, seed):
    """The second run is noise, or both are: tuning may then choose a part alone."""
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


def test_settings_that_cannot_be(write, tmp_path):
    parts, qrels = {"one": random_run(0), "two": random_run(1)}, {"q1": {3}}
    with pytest.raises(InputError, match="'max' is unknown"):
        write(parts, qrels, settings={"normalisation": "max", "step": 0.05})
    with pytest.raises(InputError, match="two or more"):
        write({"one": random_run(0)}, qrels)
    assert not (tmp_path / "out.trec").exists()
