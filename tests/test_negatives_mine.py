"""Each miner on a small knowledge base with known results."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import relevance_cases
from datasets import Dataset, DatasetDict
from relevance_cases import RELEVANCE, normal

from vlret.data.answers import PreprocessedPassages
from vlret.data.relevance import normalise
from vlret.files import InputError
from vlret.negatives import Known
from vlret.negatives.mine import MINERS, mine, read
from vlret.runs import Ranking, write_qrels, write_run

SIZES = [3, 0, 8, 1, 60]  # passages of each article
QRELS = {"q0": {3, 4}, "q1": set(), "q2": {11}, "q3": {0, 1, 2}, "q4": set()}
NOWHERE = {question: ["nowhere"] for question in QRELS}
RUN = {"q0": [4, 9, 0, 3, 70], "q2": [12, 11, 13], "q3": [2, 0, 1]}


@pytest.fixture
def inputs(tmp_path):
    articles = np.repeat(np.arange(5, dtype=np.int32), SIZES)
    texts = [f"Word{row}." for row in range(72)]
    Dataset.from_dict({"article": articles, "title": ["t"] * 72, "text": texts}).save_to_disk(
        str(tmp_path / "passages")
    )
    normalise(tmp_path / "passages", tmp_path / "normalised")
    types = {"title": list("abcde"), "type": ["city", "city", "city", None, "river"]}
    Dataset.from_dict(types).save_to_disk(str(tmp_path / "articles"))
    ask(tmp_path / "questions", NOWHERE)
    write_qrels(tmp_path / "qrels.trec", QRELS)
    write_run(
        tmp_path / "run.trec",
        {name: Ranking(np.array(rows), -np.arange(len(rows), dtype=float)) for name, rows in RUN.items()},
        "bm25",
    )
    names = {name: name for name in ("questions", "passages", "normalised", "articles")}
    names |= {"qrels": "qrels.trec", "run": "run.trec"}
    return {"split": "train", "depth": 5, "seed": 0} | {key: tmp_path / name for key, name in names.items()}


def ask(folder, answers):
    output = [{"original_answer": answers[question][0], "answer": answers[question]} for question in QRELS]
    questions = Dataset.from_dict({"id": list(QRELS), "input": ["?"] * 5, "article": [2, 4, 3, 0, 4], "output": output})
    DatasetDict({"train": questions}).save_to_disk(str(folder))


def mined(inputs, tmp_path, **changes):
    mine(**(inputs | {"out": tmp_path / "out.parquet"} | changes))
    return {question: rows.tolist() for question, rows in read(tmp_path / "out.parquet").items()}


def test_bm25_is_the_run_without_relevant_passages(inputs, tmp_path):
    assert mined(inputs, tmp_path, miner="bm25") == {"q0": [9, 0, 70], "q1": [], "q2": [12, 13], "q3": [], "q4": []}
    assert mined(inputs, tmp_path, miner="bm25", depth=1) == {"q0": [9], "q1": [], "q2": [12], "q3": [], "q4": []}


def test_passages_with_an_answer_are_never_negatives(inputs, tmp_path):
    ask(inputs["questions"], NOWHERE | {"q0": ["Word0", "word70"], "q2": ["Word13", "word12"]})
    assert mined(inputs, tmp_path, miner="bm25")["q0"] == [9]
    found = read(tmp_path / "out.parquet", "relevant")
    assert {question: rows.tolist() for question, rows in found.items()} == {
        **{question: [] for question in QRELS},
        "q0": [0],
        "q2": [13],  # only the original answer; 12 is neither positive nor negative
    }
    assert mined(inputs, tmp_path, miner="model.x_zs_none_avg")["q2"] == []
    assert not {12, 13} & set(mined(inputs, tmp_path, miner="random", depth=1000)["q2"])
    mined(inputs, tmp_path, miner="bm25", depth=2)
    assert read(tmp_path / "out.parquet", "relevant")["q2"].tolist() == [], "13 is third"


def test_answers_are_matched_by_the_configured_rule(inputs, tmp_path):
    ask(inputs["questions"], NOWHERE | {"q0": ["€5"]})
    PreprocessedPassages.write(
        [
            f"word{row} €5" if row == 9 else f"word{row}"
            for row in range(len(PreprocessedPassages.open(inputs["normalised"])))
        ],
        inputs["normalised"],
    )
    assert 9 in mined(inputs, tmp_path, miner="bm25")["q0"]
    assert 9 not in mined(inputs, tmp_path, miner="bm25", matching="whole-words")["q0"]


def stored(number):
    """A stored question with cvlp's mined passages, from those its search finds."""
    mining = RELEVANCE["irrelevant_mining"][number]
    mined = {"positives": mining["BM25_provenance_indices"], "negatives": mining["BM25_irrelevant_indices_sorted"]}
    return {**RELEVANCE["find_relevant"][number], "retrieved": mining["retrieved"], **mined}


SHAPES = [
    {**shape, "positives": shape["original_relevant"], "negatives": sorted(set(rows) - set(shape["original_relevant"]))}
    for shape in relevance_cases.variants(stored(0))
    if (rows := shape["retrieved"]) is not None
]


@pytest.mark.parity
@pytest.mark.parametrize("case", [*map(stored, range(len(RELEVANCE["irrelevant_mining"]))), *SHAPES])
def test_positives_and_negatives_equal_the_originals_except_for_other_answers(tmp_path, case):
    """In cvlp, passages without the original answer are irrelevant; here those with an alias are neither."""
    texts = RELEVANCE["kb"]
    Dataset.from_dict({"article": range(len(texts)), "text": texts}).save_to_disk(str(tmp_path / "passages"))
    normalise(tmp_path / "passages", tmp_path / "normalised")
    output = {"original_answer": case["original_answer"], "answer": case["answers"]}
    questions = {"id": ["q"], "article": [0], "output": [output]}
    DatasetDict({"train": Dataset.from_dict(questions)}).save_to_disk(str(tmp_path / "questions"))
    write_qrels(tmp_path / "qrels.trec", {"q": set()})
    rows = np.array(list(dict.fromkeys(case["retrieved"])), dtype=np.int64)
    write_run(tmp_path / "run.trec", {"q": Ranking(rows, -np.arange(len(rows), dtype=float))}, "bm25")
    folders = {name: tmp_path / name for name in ("questions", "passages", "normalised")}
    files = {"qrels": tmp_path / "qrels.trec", "run": tmp_path / "run.trec", "articles": None}
    found = mined({**folders, **files, "miner": "bm25", "split": "train", "depth": 100, "seed": 0}, tmp_path)["q"]
    positives = read(tmp_path / "out.parquet", "relevant")["q"].tolist()
    with_original, relevant = relevance_cases.ours(case["retrieved"], case["original_answer"], case["answers"])
    assert positives == list(dict.fromkeys(with_original))
    assert sorted(found) == sorted(set(rows.tolist()) - set(relevant))
    if normal(case["original_answer"]):
        # If the search finds none, those of the linked article are used, which the search does not know.
        expected = [row for row in case["positives"] if row in rows]
        assert positives == list(dict.fromkeys(expected))
    if all(map(normal, [case["original_answer"], *case["answers"]])):
        aliased = set(case["relevant"]) - set(case["original_relevant"])
        assert sorted(found) == [row for row in case["negatives"] if row not in aliased]


def test_image_takes_one_passage_per_article_in_the_runs_order(inputs, tmp_path):
    run = {"q0": [20, 21, 9, 0, 70, 1], "q2": [11]}
    rankings = {name: Ranking(np.array(rows), -np.arange(len(rows), dtype=float)) for name, rows in run.items()}
    write_run(tmp_path / "run.trec", rankings, "image")
    draws = [mined(inputs, tmp_path, miner="image.x_zs_none_avg", seed=seed) for seed in range(20)]
    articles = np.repeat(np.arange(5), SIZES)
    for found in draws:
        assert articles[found["q0"]].tolist() in ([4, 2, 0, 4, 2], [4, 0, 4, 2, 0], [4, 2, 0, 4, 0], [4, 0, 4, 0, 4]), (
            "in turn, except for the two relevant passages of article 2"
        )
        assert found["q2"] == found["q1"] == []
    assert len({row for found in draws for row in found["q0"]}) > 20, "its passages are sampled"


def test_same_type_draws_from_other_articles_of_the_type(inputs, tmp_path):
    draws = [mined(inputs, tmp_path, miner="same-type", seed=seed, depth=2, run=None) for seed in range(20)]
    # q0 is about city 2, and city 1 has no passages; q1 and q4 are about the only river, q2 about an unknown type.
    assert {row for found in draws for row in found["q0"]} == {0, 1, 2}
    assert all(len(found["q0"]) == 2 for found in draws)
    assert not any(found[question] for found in draws for question in ("q1", "q2", "q4"))
    assert {row for found in draws for row in found["q3"]} == set(range(3, 11))


def test_same_type_needs_types(inputs, tmp_path):
    Dataset.from_dict({"title": list("abcde"), "type": [None] * 5}).save_to_disk(str(tmp_path / "typeless"))
    with pytest.raises(InputError, match="typeless: no article has a type"):
        mined(inputs, tmp_path, miner="same-type", articles=tmp_path / "typeless")
    with pytest.raises(InputError, match="miner same-type needs the table of articles"):
        mined(inputs, tmp_path, miner="same-type", articles=None)


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
def test_miners_never_return_relevant_passages_and_are_seeded(inputs, tmp_path, miner):
    draws = []
    for seed in (0, 0, 1):
        found = mined(inputs, tmp_path, miner=miner, seed=seed, depth=40)
        assert list(found) == list(QRELS)
        for question, rows in found.items():
            assert not QRELS[question] & set(rows)
            assert len(rows) == len(set(rows)) <= 40
        draws.append((tmp_path / "out.parquet").read_bytes())
    assert draws[0] == draws[1]
    assert (draws[0] == draws[2]) == (miner in ("bm25", "model"))


def test_random_draws_uniformly(inputs, tmp_path):
    counts = np.zeros(72)
    for seed in range(300):
        counts[mined(inputs, tmp_path, miner="random", run=None, seed=seed)["q1"]] += 1
    assert counts.min() > 5
    assert counts.max() < 45  # 300 · 5 / 72 = 20.8 expected


def test_mismatched_inputs_are_rejected(inputs, tmp_path):
    with pytest.raises(InputError, match="unknown miner 'models'"):
        mined(inputs, tmp_path, miner="models.bm25_zs_none_none")
    with pytest.raises(InputError, match=r"miner model\.bm25_zs_none_none needs a run"):
        mined(inputs, tmp_path, miner="model.bm25_zs_none_none", run=None)
    with pytest.raises(InputError, match="miner bm25 needs a run"):
        mined(inputs, tmp_path, miner="bm25", run=None)
    write_qrels(tmp_path / "few.trec", {"q0": {1}})
    with pytest.raises(InputError, match=r"few\.trec: question q1 of split train is not judged"):
        mined(inputs, tmp_path, miner="random", qrels=tmp_path / "few.trec")
    write_run(tmp_path / "other.trec", {"q0": Ranking(np.array([72]), np.zeros(1))}, "other")
    with pytest.raises(InputError, match=r"other\.trec: question q0 has a passage beyond the 72"):
        mined(inputs, tmp_path, miner="image", run=tmp_path / "other.trec")
    few = tmp_path / "few" / "normalised"
    few.mkdir(parents=True)
    PreprocessedPassages.write(["x"], few)
    with pytest.raises(InputError, match="normalised: 1 passages, but 72 in"):
        mined(inputs, tmp_path, miner="random", normalised=few)
    write_qrels(tmp_path / "big.trec", QRELS | {"q0": {99}})
    with pytest.raises(InputError, match=r"big\.trec: question q0 has a passage beyond the 72"):
        mined(inputs, tmp_path, miner="random", qrels=tmp_path / "big.trec")
    assert not (tmp_path / "out.parquet").exists()
    with pytest.raises(InputError, match=r"gone\.parquet: no such file"):
        read(tmp_path / "gone.parquet")


def test_mining_imports_no_torch():
    code = "import sys, vlret.negatives.mine; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_an_articles_passages_are_found_without_a_copy_of_all():
    known = Known(np.repeat(np.arange(50_000, dtype=np.int32), 8), None)
    tracemalloc.start()
    assert known.own(3) == range(24, 32)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
