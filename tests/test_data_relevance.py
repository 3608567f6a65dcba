import json
from pathlib import Path

import pytest
from datasets import Features, Value
from parity import load

from vlret.data.relevance import contains, find_relevant, has_answer, judge, preprocess
from vlret.data.sources import QUESTION
from vlret.data.tables import write_splits, write_table
from vlret.files import InputError
from vlret.runs import read_qrels

RELEVANCE = load("relevance")
PASSAGES = Features({"article": Value("int32"), "title": Value("string"), "text": Value("string")})
FOUND = [(name, case) for name in ("relevance", "relevance_viquae") for case in load(name)["find_relevant"]]
ITEMS = [(name, case) for name in ("relevance", "relevance_viquae") for case in load(name)["find_relevant_item"]]


@pytest.mark.parity
@pytest.mark.parametrize("case", load("answer_preprocess")["cases"], ids=lambda case: repr(case["input"]))
def test_preprocess_is_the_originals(case: dict):
    assert preprocess(case["input"]) == case["output"]


@pytest.mark.parity
@pytest.mark.parametrize(("source", "case"), FOUND)
def test_relevant_passages_are_the_originals_but_for_empty_answers(source: str, case: dict):
    found = find_relevant(case["retrieved"], case["original_answer"], case["answers"], RELEVANCE["kb"])
    if not any(map(preprocess, [case["original_answer"], *case["answers"]])):
        assert found == ([], [])
        assert case["relevant"], "the original finds nearly everything here"
    else:
        assert found == (case["original_relevant"], case["relevant"])


@pytest.mark.parity
@pytest.mark.parametrize(("source", "case"), ITEMS)
def test_relevant_passages_of_linked_articles_are_the_originals(source: str, case: dict):
    output = case["item"]["output"]
    titles = {title for entry in output["provenance"] for title in entry["title"]}
    linked = [
        passage
        for title in titles & set(RELEVANCE["title2index"])
        for passage in RELEVANCE["article2passage"].get(str(RELEVANCE["title2index"][title]), [])
    ]
    with_original, relevant = find_relevant(linked, output["original_answer"], output["answer"], RELEVANCE["kb"])
    assert sorted(with_original) == case["original_answer_provenance_indices"]
    assert sorted(relevant) == case["provenance_indices"]


def test_an_answer_matches_whole_words_only():
    assert contains(preprocess("It borders Niger."), "Niger")
    assert not contains(preprocess("It borders Nigeria."), "Niger")
    assert not contains("anything", "the")
    assert not has_answer({"original_answer": "?", "answer": ["the"]})


def question(identifier: str, article: int, answers: list[str]) -> dict:
    return {
        "id": identifier,
        "input": "What?",
        "image": "a.jpg",
        "wikidata_id": f"Q{article}",
        "output": {"original_answer": answers[0] if answers else "", "answer": answers, "provenance": []},
        "article": article,
    }


def make(folder: Path, questions: dict[str, list[dict]]) -> dict:
    """Three articles, the second without passages; `Rome` stands in two of them."""
    texts = [(0, "Italy", "Rome is old."), (0, "Italy", "It is long."), (0, "Italy", "Rome and Milan.")]
    texts += [(2, "Rome", "It is a city."), (2, "Rome", "Old Rome.")]
    rows = [dict(zip(PASSAGES, row, strict=True)) for row in texts]
    write_table(rows, PASSAGES, folder / "passages", empty="none")
    write_splits(questions, QUESTION, folder / "questions")
    return {
        "questions": folder / "questions",
        "passages": folder / "passages",
        "out": folder / "qrels",
        "report": folder / "qrels.json",
    }


def test_judging_keeps_every_question_and_counts_what_is_missing(tmp_path: Path):
    train = [question("q1", 0, ["Rome", "Milan"]), question("q2", 1, ["Rome"]), question("q3", 0, [])]
    other = [question("q4", 2, ["Rome"])]
    judge(**make(tmp_path, {"train": train, "validation": other, "test": other}))
    assert read_qrels(tmp_path / "qrels" / "train.trec") == {"q1": {0, 2}, "q2": set(), "q3": set()}
    # The title `Rome` does not count: only the sentence that says it.
    assert read_qrels(tmp_path / "qrels" / "test.trec") == {"q4": {4}}
    report = json.loads((tmp_path / "qrels.json").read_text())
    assert report["train"] == {
        "questions": 3,
        "relevant passages": 2,
        "no answer": {"count": 1, "examples": ["q3"]},
        "no relevant passage": {"count": 2, "examples": ["q2", "q3"]},
    }


def test_a_split_without_any_relevant_passage_is_an_error_and_leaves_nothing(tmp_path: Path):
    good, bad = [question("q1", 0, ["Rome"])], [question("q2", 0, ["Paris"])]
    arguments = make(tmp_path, {"train": good, "validation": good, "test": bad})
    with pytest.raises(InputError, match="no question of test has a relevant passage"):
        judge(**arguments)
    assert not arguments["out"].exists()
    assert not arguments["report"].exists()
