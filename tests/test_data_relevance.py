import json
import re
import string
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
import relevance_cases
from datasets import Features, Value
from parity import load
from relevance_cases import RELEVANCE

from vlret.data.answers import PreprocessedPassages, contains, find_relevant, has_answer, preprocess
from vlret.data.articles import ARTICLE
from vlret.data.questions import QUESTION, linked_rows
from vlret.data.relevance import judge, normalise, pool
from vlret.data.tables import write_splits, write_table
from vlret.files import InputError, read_jsonl
from vlret.runs import Ranking, read_qrels, write_run

KNOWN = PreprocessedPassages.of(RELEVANCE["kb"])
PASSAGES = Features({"article": Value("int32"), "title": Value("string"), "text": Value("string")})
STORED = [case for name in ("relevance", "relevance_viquae") for case in load(name)["find_relevant"]]
ITEMS = [case for name in ("relevance", "relevance_viquae") for case in load(name)["find_relevant_item"]]


@pytest.mark.parity
@pytest.mark.parametrize("case", load("answer_preprocess")["cases"], ids=lambda case: repr(case["input"]))
def test_preprocess_is_the_originals(case: dict):
    assert preprocess(case["input"]) == case["output"]


@pytest.mark.parity
@pytest.mark.parametrize("case", STORED)
def test_the_originals_definition_gives_what_is_stored(case: dict):
    asked = case["retrieved"], case["original_answer"], case["answers"]
    assert relevance_cases.original(*asked) == (case["original_relevant"], case["relevant"])


@pytest.mark.parity
@pytest.mark.parametrize("case", [*STORED, *(shape for case in STORED for shape in relevance_cases.variants(case))])
def test_relevant_passages_are_the_originals_but_for_empty_answers(case: dict):
    asked = case["retrieved"], case["original_answer"], case["answers"]
    found = find_relevant(*asked, KNOWN)
    assert found == relevance_cases.ours(*asked)
    if all(map(preprocess, [case["original_answer"], *case["answers"]])):
        assert found == (case["original_relevant"], case["relevant"])
    assert set(found[0]) <= set(case["original_relevant"])
    assert set(found[1]) <= set(case["relevant"])


def shapes_of_item(case: dict) -> Iterator[dict]:
    """A stored item, and the same with answers of which nothing is left or none, and linked to nothing."""
    yield case
    output = case["item"]["output"]
    nowhere = [{"title": []}, {"title": ["Nowhere", *RELEVANCE["title2index"]]}]
    for change in (
        {"answer": [*output["answer"], "The"]},
        {"original_answer": ""},
        {"original_answer": "", "answer": []},
        {"provenance": nowhere},
        {"original_answer": "nowhere at all", "answer": []},
    ):
        changed = {**output, **change}
        with_original, relevant = relevance_cases.original(
            linked_passages(changed), changed["original_answer"], changed["answer"]
        )
        stored = {
            "original_answer_provenance_indices": sorted(with_original),
            "provenance_indices": sorted(relevant),
        }
        yield {"item": {**case["item"], "output": changed}, **stored}


def linked_passages(output: dict) -> list[int]:
    """The passages of the articles that an item names."""
    rows = linked_rows(output["provenance"], RELEVANCE["title2index"])
    return [passage for row in rows for passage in RELEVANCE["article2passage"].get(str(row), [])]


@pytest.mark.parity
@pytest.mark.parametrize("case", [shape for case in ITEMS for shape in shapes_of_item(case)])
def test_relevant_passages_of_linked_articles_are_the_originals_but_for_empty_answers(case: dict):
    output = case["item"]["output"]
    asked = linked_passages(output), output["original_answer"], output["answer"]
    found = [sorted(rows) for rows in find_relevant(*asked, KNOWN)]
    assert found == [sorted(rows) for rows in relevance_cases.ours(*asked)]
    if all(map(preprocess, [output["original_answer"], *output["answer"]])):
        assert found == [case["original_answer_provenance_indices"], case["provenance_indices"]]


def test_an_answer_matches_whole_words_only():
    assert contains(preprocess("It borders Niger."), "Niger")
    assert not contains(preprocess("It borders Nigeria."), "Niger")
    assert not contains("anything", "the")
    assert not has_answer({"original_answer": "?", "answer": ["the"]})


def test_preprocessing_and_matching_are_the_definition_on_any_characters():
    """Against meerqat's definition as it is written: characters one by one, an expression an answer and passage."""

    def defined(text: str) -> str:
        kept = "".join(character for character in text.lower() if character not in string.punctuation)
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())

    random = Random(0)
    found = 0
    for _ in range(5000):
        draw = ["".join(random.choices("abaan the–’é½²\u0130\u0307_-., \n\x00\x1c\x85\u3000", k=12)) for _ in range(4)]
        drawn = ["".join(random.choices("ab –é_½ ", k=random.randrange(5))) for _ in range(4)]
        texts = [*draw, "".join(drawn), *("".join(random.choices("ab –é_½ ", k=9)) for _ in range(3))]
        wanted = [defined(answer) for answer in drawn]
        assert [preprocess(text) for text in texts] == [defined(text) for text in texts]
        holds = [[bool(one and re.search(rf"\b{one}\b", defined(text))) for one in wanted] for text in texts]
        expected = [row for row in range(8) if holds[row][0]], [row for row in range(8) if any(holds[row])]
        assert find_relevant(range(8), drawn[0], drawn[1:], PreprocessedPassages.of(texts)) == expected
        found += len(expected[1])
    assert found > 2000


# Answer -> texts that hold it, texts that do not; the third, what meerqat's rule finds of the first.
WHOLE = {
    "£50": (["It cost £50.", "£50", "(£50)"], ["It cost £500.", "us£50", "£5"], []),
    "90°": (["An angle of 90°.", "90°"], ["190°", "90°C", "90"], []),
    "C♯": (["In C♯ minor", "C♯"], ["AC♯", "C♯m", "C"], []),
    "हिन्दी": (["यह हिन्दी है।", "हिन्दी"], ["हिन्दीभाषी", "हिन्द"], []),
    "हिन्द": (["जय हिन्द!"], ["यह हिन्दी है।"], ["जय हिन्द!"]),
    "cafe": (["A cafe’s", "cafe"], ["cafe\u0301", "cafes"], ["A cafe’s", "cafe"]),
    "☀": (["Under ☀\ufe0f and rain", "☀"], ["☀x"], []),
    "Niger": (["Niger’s coast", "“Niger”"], ["Nigeria"], ["Niger’s coast", "“Niger”"]),
}


@pytest.mark.parametrize("answer", WHOLE)
def test_whole_words_finds_symbols_and_marks_at_an_answers_ends_and_no_part_of_a_word(answer: str):
    held, free, by_meerqat = WHOLE[answer]
    passages = PreprocessedPassages.of([*held, *free])
    rows = list(range(len(passages)))
    expected = rows[: len(held)]
    assert find_relevant(rows, answer, [], passages, "whole-words") == (expected, expected)
    assert find_relevant(rows, "none", [answer], passages, "whole-words") == ([], expected)
    assert [text for text in held if contains(preprocess(text), answer)] == by_meerqat


def test_whole_words_is_the_definition_on_any_characters_and_meerqats_where_answers_are_of_letters():
    """Against an expression an answer and passage, and meerqat's rule where both can say the same."""
    beside = "[^\\W_]|[\u0300-\u036f\u093e-\u094d]"
    random = Random(0)
    found = same = 0
    for _ in range(3000):
        drawn = ["".join(random.choices("ab £°é\u0301\u093f", k=random.randrange(5))) for _ in range(3)]
        texts = ["".join(random.choices("ab £°é\u0301\u093f", k=9)) for _ in range(5)] + ["".join(drawn)]
        wanted = [preprocess(answer) for answer in drawn]
        holds = [
            [bool(one and re.search(f"(?<!{beside}){one}(?!{beside})", preprocess(text))) for one in wanted]
            for text in texts
        ]
        expected = [row for row in range(6) if holds[row][0]], [row for row in range(6) if any(holds[row])]
        passages = PreprocessedPassages.of(texts)
        assert find_relevant(range(6), drawn[0], drawn[1:], passages, "whole-words") == expected
        plain = PreprocessedPassages.of([re.sub("[\u0301\u093f]", "", text) for text in texts])
        first, *others = ["".join(filter(str.isalnum, answer)) for answer in drawn]
        by_meerqat = find_relevant(range(6), first, others, plain)
        assert find_relevant(range(6), first, others, plain, "whole-words") == by_meerqat
        found, same = found + len(expected[1]), same + len(by_meerqat[1])
    assert min(found, same) > 1500


def test_judgements_and_pools_are_made_by_the_rule_that_is_asked(tmp_path: Path):
    splits = {split: [question(split, 0, ["£50", "Rome"])] for split in ("train", "validation", "test")}
    made = make(tmp_path, splits)
    PreprocessedPassages.write(["it cost £50", "£500", "rome", "£50", "x£50"], made["normalised"])
    judge(**made)
    assert read_qrels(tmp_path / "qrels" / "test.trec") == {"test": {2}}
    judge(**made, matching="whole-words")
    assert read_qrels(tmp_path / "qrels" / "test.trec") == {"test": {0, 2}}
    ranking = Ranking(np.arange(5), np.arange(5, 0.0, -1))
    write_run(tmp_path / "run.trec", dict.fromkeys(splits, ranking), "run")
    arguments = [tmp_path / "run.trec"], made["questions"], made["normalised"], tmp_path / "pool", tmp_path / "p.json"
    pool(*arguments)
    assert read_qrels(tmp_path / "pool" / "test.trec") == {"test": {2, 4}}
    pool(*arguments, matching="whole-words")
    assert read_qrels(tmp_path / "pool" / "test.trec") == {"test": {0, 2, 3}}


def test_retrieved_twice_is_relevant_twice_and_the_order_is_kept():
    passages = PreprocessedPassages.of(["Rome", "x", "In Rome."])
    assert find_relevant([2, 1, 0, 2], "x", ["rome"], passages) == ([1], [2, 1, 0, 2])


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
    normalise(folder / "passages", folder / "normalised")
    return {
        "questions": folder / "questions",
        "passages": folder / "passages",
        "normalised": folder / "normalised",
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
        "no answer": {"count": 1, "examples": ["q3"], "rows": [2]},
        "no relevant passage": {"count": 2, "examples": ["q2", "q3"], "rows": [1, 2]},
    }


def test_judging_writes_what_meerqats_datasets_have(tmp_path: Path):
    record = question("q1", 0, ["Rome", "Milan", "long"])
    record["output"]["original_answer"] = "Milan"
    judge(**make(tmp_path, {"train": [record], "validation": [record | {"id": "q2"}], "test": [record | {"id": "q3"}]}))
    assert [found for _, found in read_jsonl(tmp_path / "qrels" / "train.jsonl")] == [
        {"id": "q1", "original_answer_provenance_indices": [2], "provenance_indices": [0, 1, 2]}
    ]


@pytest.mark.parity
@pytest.mark.parametrize("case", [*ITEMS, *(shape for case in ITEMS[:2] for shape in shapes_of_item(case))])
def test_judging_by_provenance_is_the_originals_but_for_empty_answers(tmp_path: Path, case: dict):
    """Their articles' passages are not contiguous; here each comes once an article, so rows are mapped."""
    kb, titles = RELEVANCE["kb"], RELEVANCE["title2index"]
    kept = [(titles[t], row) for t in titles for row in RELEVANCE["article2passage"].get(str(titles[t]), [])]
    order = sorted(kept, key=lambda pair: pair[0])
    passages = [{"article": article, "title": "", "text": kb[row]} for article, row in order]
    other = [(len(titles), row) for row in range(len(kb)) if row not in {row for _, row in order}]
    passages += [{"article": article, "title": "", "text": kb[row]} for article, row in other]
    order += other
    # One that is found in any case, so that a question without relevant passage is no error.
    passages.append({"article": len(titles) + 1, "title": "", "text": "surely found"})
    names = [*sorted(titles, key=titles.get), "none of them", "one for sure"]
    articles = [{"id": str(row), "title": name, "paragraphs": []} for row, name in enumerate(names)]
    write_table(articles, ARTICLE, tmp_path / "articles", empty="none")
    write_table(passages, PASSAGES, tmp_path / "passages", empty="none")
    output = case["item"]["output"] | {
        "provenance": [{"title": e["title"]} for e in case["item"]["output"]["provenance"]]
    }
    sure = {"original_answer": "surely", "answer": [], "provenance": [{"title": ["one for sure"]}]}
    found = question("found", 0, []) | {"output": sure}
    records = [question("q", 3, []) | {"output": output}, found]
    splits = {split: [r | {"id": f"{split}-{r['id']}"} for r in records] for split in ("train", "validation", "test")}
    write_splits(splits, QUESTION, tmp_path / "questions")
    normalise(tmp_path / "passages", tmp_path / "normalised")
    judge(
        tmp_path / "questions",
        tmp_path / "passages",
        tmp_path / "normalised",
        tmp_path / "qrels",
        tmp_path / "qrels.json",
        "provenance",
        tmp_path / "articles",
    )
    line = next(values for _, values in read_jsonl(tmp_path / "qrels" / "train.jsonl"))
    expected = relevance_cases.ours(linked_passages(output), output["original_answer"], output["answer"])
    for name, rows in zip(("original_answer_provenance_indices", "provenance_indices"), expected, strict=True):
        assert sorted(order[row][1] for row in line[name]) == sorted(rows)
        if all(map(preprocess, [output["original_answer"], *output["answer"]])):
            assert sorted(rows) == case[name]


def test_with_titles_an_answer_may_stand_in_the_title(tmp_path: Path):
    arguments = make(tmp_path, {split: [question(split, 2, ["Rome"])] for split in ("train", "validation", "test")})
    normalise(tmp_path / "passages", tmp_path / "normalised", titles="[SEP]")
    assert (tmp_path / "normalised" / "texts.utf8").read_text().splitlines()[3] == "rome sep it is city"
    judge(**arguments)
    assert read_qrels(tmp_path / "qrels" / "test.trec") == {"test": {3, 4}}


def test_links_by_provenance_need_the_articles(tmp_path: Path):
    arguments = make(tmp_path, {"train": [question("q1", 0, ["Rome"])]})
    with pytest.raises(InputError, match="link 'provenance' needs the table of articles"):
        judge(**arguments, link="provenance")


def test_a_split_without_any_relevant_passage_is_an_error_and_leaves_nothing(tmp_path: Path):
    good, bad = [question("q1", 0, ["Rome"])], [question("q2", 0, ["Paris"])]
    arguments = make(tmp_path, {"train": good, "validation": good, "test": bad})
    with pytest.raises(InputError, match="no question of test has a relevant passage"):
        judge(**arguments)
    assert not arguments["out"].exists()
    assert not arguments["report"].exists()


def test_normalised_texts_are_read_as_written_and_broken_ones_refused(tmp_path: Path):
    arguments = make(tmp_path, {"train": [question("q", 0, ["Rome"])]})
    folder = arguments["normalised"]
    assert (folder / "texts.utf8").read_text() == "rome is old\nit is long\nrome and milan\nit is city\nold rome\n"
    assert PreprocessedPassages.open(folder).join([4, 0]) == (b"old rome\nrome is old\n", [9, 21])
    other = make(tmp_path / "other", {"train": [question("q", 0, ["Rome"])]})
    PreprocessedPassages.write(["Rome"], folder)
    with pytest.raises(InputError, match="normalised: 1 passages, but 5 in"):
        judge(**other | {"normalised": folder})
    (folder / "texts.utf8").write_text("rom\n")
    with pytest.raises(InputError, match=r"texts\.utf8 and ends\.npy do not match; make it again"):
        PreprocessedPassages.open(folder)
    with pytest.raises(InputError, match="none: cannot be read as preprocessed passages"):
        PreprocessedPassages.open(tmp_path / "none")


def pooled(tmp_path: Path, runs: dict[str, dict[str, list[int]]], **splits: list[dict]) -> dict[str, dict[str, set]]:
    made = make(tmp_path, splits)
    for name, run in runs.items():
        ranked = {question: Ranking(np.array(rows), np.arange(len(rows), 0.0, -1)) for question, rows in run.items()}
        write_run(tmp_path / f"{name}.trec", ranked, name)
    paths = [tmp_path / f"{name}.trec" for name in runs]
    pool(paths, made["questions"], made["normalised"], tmp_path / "pool", tmp_path / "pool.json")
    return {path.stem: read_qrels(path) for path in (tmp_path / "pool").iterdir()}


def test_dynamic_judgements_pool_what_any_run_retrieved_of_any_article(tmp_path: Path):
    validation, test = [question("v", 0, ["Milan"])], [question("t", 0, ["Rome", "the"]), question("u", 1, ["Rome"])]
    runs = {"a": {"v": [2, 1], "t": [1, 0], "train": [4]}, "b": {"t": [4, 3]}}
    found = pooled(tmp_path, runs, train=[question("train", 0, ["Rome"])], validation=validation, test=test)
    # Passage 4 is of another article; 2 holds the answer too, but no run has it; no run has question u.
    assert found == {"validation": {"v": {2}}, "test": {"t": {0, 4}, "u": set()}}
    assert json.loads((tmp_path / "pool.json").read_text())["test"]["no relevant passage"]["examples"] == ["u"]


def test_pools_without_relevant_passages_and_runs_of_other_passages_are_refused(tmp_path: Path):
    splits = {"validation": [question("v", 0, ["Rome"])], "test": [question("t", 0, ["Rome"])]}
    with pytest.raises(InputError, match="no question of test has a relevant passage; do the runs fit"):
        pooled(tmp_path, {"a": {"v": [0], "t": [1]}}, **splits)
    with pytest.raises(InputError, match=r"a\.trec: question t has a passage beyond the 5"):
        pooled(tmp_path / "other", {"a": {"v": [0], "t": [5]}}, **splits)
    assert not list(tmp_path.rglob("pool*"))
