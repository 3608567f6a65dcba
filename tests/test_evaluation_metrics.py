"""Metrics files: their content for a hand-computed case."""

import numpy as np
import pytest

from vlret.evaluation.metrics import evaluate
from vlret.files import InputError, read_json, sha256
from vlret.runs import Ranking, write_qrels, write_run


def test_the_file_holds_each_question_and_the_means(tmp_path):
    write_qrels(tmp_path / "validation.trec", {"v1": {1}, "v0": {2}})
    write_qrels(tmp_path / "test.trec", {"t0": {1}, "t1": set(), "t2": {1, 2}, "t3": {3}})
    rankings = {"v0": [1, 2], "t0": [0, 1], "t1": [1], "t2": [2, 1], "other": [1]}
    run = {name: Ranking(np.array(rows), -np.arange(len(rows), dtype=float)) for name, rows in rankings.items()}
    write_run(tmp_path / "run.trec", run, "x")
    qrels = [tmp_path / "validation.trec", tmp_path / "test.trec"]
    for out in ("one.json", "two.json"):
        evaluate(tmp_path / "run.trec", qrels, ["mrr@100", "precision@2", "hit_rate@1"], "x", tmp_path / out)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert read_json(tmp_path / "one.json") == {
        "name": "x",
        "splits": {
            "validation": {
                "qrels_sha256": sha256(tmp_path / "validation.trec"),
                "without_relevant": 0,
                "mean": {"mrr@100": 0.25, "precision@2": 0.25, "hit_rate@1": 0},
                "questions": ["v1", "v0"],
                "per_question": {"mrr@100": [0, 0.5], "precision@2": [0, 0.5], "hit_rate@1": [0, 0]},
            },
            "test": {
                "qrels_sha256": sha256(tmp_path / "test.trec"),
                "without_relevant": 1,
                "mean": {"mrr@100": 0.375, "precision@2": 0.375, "hit_rate@1": 0.25},
                "questions": ["t0", "t1", "t2", "t3"],
                "per_question": {
                    "mrr@100": [0.5, 0, 1, 0],
                    "precision@2": [0.5, 0, 1, 0],
                    "hit_rate@1": [0, 0, 1, 0],
                },
            },
        },
    }


def test_a_run_of_other_questions_is_refused(tmp_path):
    write_qrels(tmp_path / "validation.trec", {"v": {1}})
    write_qrels(tmp_path / "test.trec", {"t": {1}})
    write_run(tmp_path / "run.trec", {"v": Ranking(np.array([1]), np.zeros(1))}, "x")
    qrels = [tmp_path / "validation.trec", tmp_path / "test.trec"]
    with pytest.raises(InputError, match=r"run\.trec: ranks no passage for any question of .*test\.trec"):
        evaluate(tmp_path / "run.trec", qrels, ["mrr@100"], "x", tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_an_empty_run_scores_zero_and_a_single_qrels_file_is_of_the_test(tmp_path, capsys):
    (tmp_path / "test.trec").write_text("t0 0 694549 1\nt0 0 42 1\nt1 0 7 1\n")
    (tmp_path / "nothing.trec").write_text("")
    (tmp_path / "some.trec").write_text("t0 Q0 3 1 9.5 BM25\nt0 Q0 42 2 9.25 BM25\n")
    for name, mean in (("nothing", 0), ("some", 0.25)):
        evaluate(tmp_path / f"{name}.trec", [tmp_path / "test.trec"], ["mrr@100"], name, tmp_path / "out.json")
        found = read_json(tmp_path / "out.json")["splits"]
        assert list(found) == ["test"]
        assert found["test"]["mean"] == {"mrr@100": mean}
        assert found["test"]["questions"] == ["t0", "t1"]
    assert "some.trec lacks 1 of the 2 questions of" in capsys.readouterr().err
    evaluate(tmp_path / "nothing.trec", [tmp_path / "test.trec"] * 2, ["mrr@100"], "x", tmp_path / "out.json")
    with pytest.raises(InputError, match="qrels: 3 files, expected one of validation and one of test, or only of test"):
        evaluate(tmp_path / "some.trec", [tmp_path / "test.trec"] * 3, ["mrr@100"], "x", tmp_path / "out.json")
