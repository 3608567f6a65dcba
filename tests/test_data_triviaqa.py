import json
from pathlib import Path

import published
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_from_disk

from vlret.data.articles import import_articles
from vlret.data.passages import split
from vlret.data.published_passages import SEPARATOR, import_passages
from vlret.data.questions import import_questions
from vlret.data.relevance import judge, normalise
from vlret.data.triviaqa import join
from vlret.files import InputError, read_jsonl, write_jsonl
from vlret.runs import read_qrels
from vlret.settings import Passages

KNOWN = 40
COUNTS = {"train": 30, "validation": 9, "test": 6}


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """KILT's knowledge base and TriviaQA, as tables and as lines, and what is made of them."""
    folder = tmp_path_factory.mktemp("kilt")
    published.kilt_wikipedia(folder / "wikipedia.json", KNOWN)
    published.kilt_tasks(folder, COUNTS, KNOWN)
    import_articles([folder / "wikipedia.json"], {}, folder / "articles", folder / "articles.json")
    joined(folder)
    return folder


def joined(folder: Path, limits: dict | None = None, **changed: Path) -> None:
    files = {f"kilt_{name}": folder / f"triviaqa-{name}-kilt.jsonl" for name in COUNTS}
    files |= {f"trivia_{name}": folder / f"unfiltered-{name}.jsonl" for name in COUNTS}
    join(**files | changed, limits=limits or {}, out=folder / "joined", report=folder / "joined.json")


def records(path: Path) -> list[dict]:
    return [values for _, values in read_jsonl(path)]


def test_kilts_ids_get_their_words_and_answers(raw: Path):
    made = {split: records(raw / "joined" / f"{split}.jsonl") for split in ("train", "validation", "test")}
    assert {split: len(rows) for split, rows in made.items()} == {"train": 30, "validation": 5, "test": 4}
    asked = {row["question_id"]: row for row in records(raw / "unfiltered-train.jsonl")}
    for row in made["train"]:
        assert row["input"] == asked[row["id"]]["question"]
        assert row["output"]["original_answer"] == asked[row["id"]]["answer"]["value"]
        assert row["output"]["answer"]
        assert row["output"]["provenance"][0]["title"]
    kilt = [row["id"] for row in records(raw / "triviaqa-validation-kilt.jsonl")]
    assert [row["id"] for row in made["validation"]] == kilt[::2]
    assert [row["id"] for row in made["test"]] == kilt[1::2]


def test_the_hubs_tables_are_joined_as_the_lines_are(raw: Path, tmp_path: Path):
    tables = {}
    for name, file in {"kilt_train": "triviaqa-train-kilt", "trivia_train": "unfiltered-train"}.items():
        kept = [
            {key: row[key] for key in ("id", "output", "question_id", "question", "answer") if key in row}
            for row in records(raw / f"{file}.jsonl")
        ]
        for row in kept:
            for found in (found for part in row.get("output", []) for found in part["provenance"]):
                del found["meta"]  # an empty record, which Parquet cannot write
        (tmp_path / name).mkdir()
        pq.write_table(pa.Table.from_pylist(kept), tmp_path / name / "000-part.parquet")
        tables[name] = tmp_path / name
    before = records(raw / "joined" / "train.jsonl")
    joined(raw, **tables)
    assert records(raw / "joined" / "train.jsonl") == before


def test_joined_questions_find_their_passages_by_provenance(raw: Path, tmp_path: Path):
    import_questions(
        *(raw / "joined" / f"{split}.jsonl" for split in ("train", "validation", "test")),
        articles=raw / "articles",
        images=None,
        link="provenance",
        limits={},
        out=tmp_path / "questions",
        report=tmp_path / "questions.json",
    )
    split(raw / "articles", Passages(), tmp_path / "passages")
    normalise(tmp_path / "passages", tmp_path / "normalised", titles="[SEP]")
    judge(
        tmp_path / "questions",
        tmp_path / "passages",
        tmp_path / "normalised",
        tmp_path / "qrels",
        tmp_path / "qrels.json",
        "provenance",
        raw / "articles",
    )
    found = read_qrels(tmp_path / "qrels" / "train.trec")
    assert len(found) == 30
    assert sum(map(bool, found.values())) >= 25
    train = load_from_disk(str(tmp_path / "questions"))["train"]
    assert train["original_question"] == train["input"]


def test_a_test_with_answers_is_used_as_it_is(raw: Path):
    joined(raw, kilt_test=raw / "triviaqa-validation-kilt.jsonl", trivia_test=raw / "unfiltered-validation.jsonl")
    made = {
        split: [row["id"] for row in records(raw / "joined" / f"{split}.jsonl")] for split in ("validation", "test")
    }
    assert made["test"] == made["validation"]
    assert len(made["test"]) == 9
    joined(raw)


def test_unknown_ids_are_counted_or_stop_the_run(raw: Path, tmp_path: Path):
    write_jsonl(tmp_path / "kilt.jsonl", [{"id": "tc_x", "output": []}, *records(raw / "triviaqa-train-kilt.jsonl")])
    with pytest.raises(InputError, match=r"line 1: field 'id' is tc_x, and .*unfiltered-train\.jsonl has no such"):
        joined(raw, kilt_train=tmp_path / "kilt.jsonl")
    joined(raw, {"no question": 1}, kilt_train=tmp_path / "kilt.jsonl")
    assert len(records(raw / "joined" / "train.jsonl")) == 30
    assert json.loads((raw / "joined.json").read_text())["train"]["no question"]["count"] == 1


def as_published(folder: Path, **changed) -> list[dict]:
    """The passages of KILT's articles as their dataset has them."""
    split(folder / "articles", Passages(), folder / "passages")
    rows = load_from_disk(str(folder / "passages"))
    return [{"passage": f"{r['title']}{SEPARATOR}{r['text']}", "index": r["article"]} for r in rows]


def test_published_passages_are_those_that_cutting_makes(raw: Path, tmp_path: Path):
    rows = as_published(raw)
    (tmp_path / "data").mkdir()
    for part in (0, 1):
        half = rows[part * len(rows) // 2 : (part + 1) * len(rows) // 2]
        pq.write_table(pa.Table.from_pylist(half), tmp_path / "data" / f"train-{part:05d}-of-00002.parquet")
    import_passages([tmp_path / "data"], raw / "articles", tmp_path / "passages")
    assert load_from_disk(str(tmp_path / "passages")).to_list() == load_from_disk(str(raw / "passages")).to_list()


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (
            3,
            {"passage": "Elsewhere [SEP] x"},
            "line 4: field 'passage' begins with 'Elsewhere .SEP. x', but article 0 is",
        ),
        (3, {"index": 40}, "line 4: field 'index' is 40, but there are 40 articles"),
        (-1, {"index": 0}, "field 'index' is 0 after 39, expected the articles' order"),
        (0, {"index": "0"}, "line 1: field 'index' is str, expected int"),
    ],
)
def test_published_passages_of_other_articles_are_refused(raw: Path, tmp_path: Path, row: int, change, message: str):
    rows = as_published(raw)
    rows[row] |= change
    write_jsonl(tmp_path / "passages.jsonl", rows)
    with pytest.raises(InputError, match=message):
        import_passages([tmp_path / "passages.jsonl"], raw / "articles", tmp_path / "passages")
    assert not (tmp_path / "passages").exists()
