"""Each miner on a small knowledge base where the answer is known."""

import subprocess
import sys

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from vlret.files import InputError
from vlret.negatives.mine import MINERS, mine, read
from vlret.runs import Ranking, write_qrels, write_run

SIZES = [3, 0, 8, 1, 60]  # passages of each article
QRELS = {"q0": {3, 4}, "q1": set(), "q2": {11}, "q3": {0, 1, 2}, "q4": set()}
RUN = {"q0": [4, 9, 0, 3, 70], "q2": [12, 11, 13], "q3": [2, 0, 1]}


@pytest.fixture
def inputs(tmp_path):
    articles = np.repeat(np.arange(5, dtype=np.int32), SIZES)
    Dataset.from_dict({"article": articles, "title": ["t"] * 72, "text": ["x"] * 72}).save_to_disk(
        str(tmp_path / "passages")
    )
    questions = Dataset.from_dict({"id": list(QRELS), "input": ["?"] * 5, "article": [2, 4, 3, 0, 4]})
    DatasetDict({"train": questions}).save_to_disk(str(tmp_path / "questions"))
    write_qrels(tmp_path / "qrels.trec", QRELS)
    write_run(
        tmp_path / "run.trec",
        {name: Ranking(np.array(rows), -np.arange(len(rows), dtype=float)) for name, rows in RUN.items()},
        "bm25",
    )
    names = {"questions": "questions", "passages": "passages", "qrels": "qrels.trec", "run": "run.trec"}
    return {"split": "train", "depth": 5, "seed": 0} | {key: tmp_path / name for key, name in names.items()}


def mined(inputs, tmp_path, **changes):
    mine(**(inputs | {"out": tmp_path / "out.parquet"} | changes))
    return {question: rows.tolist() for question, rows in read(tmp_path / "out.parquet").items()}


def test_bm25_is_the_run_without_relevant_passages(inputs, tmp_path):
    assert mined(inputs, tmp_path, miner="bm25") == {"q0": [9, 0, 70], "q1": [], "q2": [12, 13], "q3": [], "q4": []}
    assert mined(inputs, tmp_path, miner="bm25", depth=1) == {"q0": [9], "q1": [], "q2": [12], "q3": [], "q4": []}


def test_article_is_the_rest_of_the_linked_article(inputs, tmp_path):
    found = mined(inputs, tmp_path, miner="article", depth=100, run=None)
    assert {question: sorted(rows) for question, rows in found.items()} == {
        "q0": [5, 6, 7, 8, 9, 10],
        "q1": list(range(12, 72)),
        "q2": [],
        "q3": [],
        "q4": list(range(12, 72)),
    }
    few = mined(inputs, tmp_path, miner="article", run=None)
    assert len(few["q0"]) == len(few["q1"]) == 5
    assert few["q1"] != [12, 13, 14, 15, 16]


def test_random_draws_distinct_irrelevant_passages(inputs, tmp_path):
    found = mined(inputs, tmp_path, miner="random", run=None)
    assert all(len(set(rows)) == 5 for rows in found.values())
    assert found["q1"] != found["q4"]
    everything = mined(inputs, tmp_path, miner="random", run=None, depth=1000)
    assert {question: set(rows) for question, rows in everything.items()} == {
        question: set(range(72)) - relevant for question, relevant in QRELS.items()
    }


@pytest.mark.parametrize("miner", MINERS)
def test_no_miner_ever_gives_a_relevant_passage_and_the_seed_decides_all(inputs, tmp_path, miner):
    draws = []
    for seed in (0, 0, 1):
        found = mined(inputs, tmp_path, miner=miner, seed=seed, depth=40)
        assert list(found) == list(QRELS)
        for question, rows in found.items():
            assert not QRELS[question] & set(rows)
            assert len(rows) == len(set(rows)) <= 40
        draws.append((tmp_path / "out.parquet").read_bytes())
    assert draws[0] == draws[1]
    assert (draws[0] == draws[2]) == (miner == "bm25")


def test_random_draws_evenly(inputs, tmp_path):
    counts = np.zeros(72)
    for seed in range(300):
        counts[mined(inputs, tmp_path, miner="random", run=None, seed=seed)["q1"]] += 1
    assert counts.min() > 5
    assert counts.max() < 45  # 300 · 5 / 72 = 20.8 expected


def test_what_does_not_fit_is_refused(inputs, tmp_path):
    with pytest.raises(InputError, match="no miner is called 'model'"):
        mined(inputs, tmp_path, miner="model")
    with pytest.raises(InputError, match="miner bm25 come from a run"):
        mined(inputs, tmp_path, miner="bm25", run=None)
    write_qrels(tmp_path / "few.trec", {"q0": {1}})
    with pytest.raises(InputError, match=r"few\.trec: question q1 of split train is not judged"):
        mined(inputs, tmp_path, miner="random", qrels=tmp_path / "few.trec")
    write_run(tmp_path / "other.trec", {"q0": Ranking(np.array([72]), np.zeros(1))}, "other")
    with pytest.raises(InputError, match=r"other\.trec: question q0 has a passage beyond the 72"):
        mined(inputs, tmp_path, miner="bm25", run=tmp_path / "other.trec")
    write_qrels(tmp_path / "big.trec", QRELS | {"q0": {99}})
    with pytest.raises(InputError, match=r"big\.trec: question q0 has a passage beyond the 72"):
        mined(inputs, tmp_path, miner="random", qrels=tmp_path / "big.trec")
    assert not (tmp_path / "out.parquet").exists()
    with pytest.raises(InputError, match=r"gone\.parquet: no such file"):
        read(tmp_path / "gone.parquet")


def test_mining_imports_no_torch():
    code = "import sys, vlret.negatives.mine; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
