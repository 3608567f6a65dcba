import copy
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_from_disk

from vlret.batches import LargestBatch
from vlret.data import articles, questions
from vlret.data.articles import import_articles
from vlret.data.questions import import_questions
from vlret.data.records import read_records
from vlret.files import InputError, write_jsonl

FIRST = {
    "wikipedia_id": "1",
    "wikipedia_title": "Rome",
    "image": "rome.png",
    "text": {"paragraph": ["Rome\n", "Rome is old.\n"]},
    "wikidata_info": {"wikidata_id": "Q220"},
}
SECOND = {
    "wikipedia_id": "2",
    "wikipedia_title": "Oslo",
    "image": None,
    "text": {"paragraph": ["Oslo\n"]},
    "wikidata_info": {"wikidata_id": "Q585"},
}
QUESTION = {
    "id": "q1",
    "input": "Is it old?",
    "original_question": "Is Rome old?",
    "image": "photo.jpg",
    "wikidata_id": "Q220",
    "output": {"original_answer": "old", "answer": ["old", "aged"], "provenance": [{"title": ["Rome"]}]},
}


def changed(record: dict, field: str, value: object) -> dict:
    """A copy of a record with one dotted field set, or removed where `value` is `...`."""
    record = copy.deepcopy(record)
    *path, last = field.split(".")
    inner = record
    for name in path:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return record


class Folder:
    """Raw files and what is made of them."""

    def __init__(self, path: Path):
        self.path = path
        (path / "images").mkdir()
        (path / "images" / "photo.jpg").write_bytes(b"photo")

    def articles(self, *records: dict, limits: dict | None = None) -> None:
        write_jsonl(self.path / "wikipedia.jsonl", list(records))
        self.import_articles(self.path / "wikipedia.jsonl", limits=limits)

    def import_articles(self, *files: Path, limits: dict | None = None) -> None:
        import_articles(list(files), limits or {}, self.path / "articles", self.path / "articles.json")

    def questions(self, *train: dict, train_like: bool = False, limits: dict | None = None, **options) -> None:
        like = train[0] if train_like else QUESTION
        other = [changed(like, "id", f"{split}1") for split in ("validation", "test")]
        for split, records in zip(("train", "validation", "test"), (train, *([one] for one in other)), strict=True):
            write_jsonl(self.path / f"{split}.jsonl", list(records))
        self.import_questions(limits, **options)

    def import_questions(self, limits: dict | None = None, **options) -> None:
        default = {"images": self.path / "images", "link": "wikidata"}
        import_questions(
            train=self.path / "train.jsonl",
            validation=self.path / "validation.jsonl",
            test=self.path / "test.jsonl",
            articles=self.path / "articles",
            limits=limits or {},
            out=self.path / "questions",
            report=self.path / "questions.json",
            **default | options,
        )


@pytest.fixture
def raw(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_articles_keep_order_text_image_and_type(raw: Folder):
    raw.articles({**FIRST, "type": "city"}, SECOND)
    assert load_from_disk(str(raw.path / "articles")).to_list() == [
        {
            "id": "1",
            "title": "Rome",
            "paragraphs": ["Rome\n", "Rome is old.\n"],
            "image": "rome.png",
            "wikidata_id": "Q220",
            "type": "city",
        },
        {"id": "2", "title": "Oslo", "paragraphs": ["Oslo\n"], "image": None, "wikidata_id": "Q585", "type": None},
    ]
    assert json.loads((raw.path / "articles.json").read_text()) == {
        "articles": 2,
        "no text": {"count": 1, "examples": ["Oslo"]},
        "no image": {"count": 1, "examples": ["Oslo"]},
        "no wikidata id": {"count": 0, "examples": []},
        "repeated": {"count": 0, "examples": []},
        "shared wikidata id": {"count": 0, "examples": []},
        "malformed": {"count": 0, "examples": []},
    }


def test_articles_of_several_files_follow_each_other(raw: Folder):
    for name, record in (("b", SECOND), ("a", FIRST)):
        write_jsonl(raw.path / name, [record])
    raw.import_articles(raw.path / "b", raw.path / "a")
    assert load_from_disk(str(raw.path / "articles"))["title"] == ["Oslo", "Rome"]


def test_questions_are_linked_to_the_row_of_their_article(raw: Folder):
    raw.articles(SECOND, FIRST)
    raw.questions(QUESTION)
    splits = load_from_disk(str(raw.path / "questions"))
    assert list(splits) == ["train", "validation", "test"]
    fields = ("id", "input", "original_question", "image", "wikidata_id", "output")
    assert splits["train"].to_list() == [{**{field: QUESTION[field] for field in fields}, "article": 1}]


def test_a_question_need_not_name_its_entity(raw: Folder):
    raw.articles(FIRST)
    raw.questions(changed(QUESTION, "original_question", None))
    assert load_from_disk(str(raw.path / "questions"))["train"]["original_question"] == [None]


@pytest.mark.parametrize(
    "provenance",
    [[{"title": ["Rome"]}, {"title": ["Oslo"]}], {"title": [["Rome"], ["Oslo"]], "wikipedia_id": [[], []]}],
)
def test_provenance_may_be_a_list_of_records_or_a_record_of_lists(raw: Folder, provenance: object):
    raw.articles(FIRST)
    raw.questions(changed(QUESTION, "output.provenance", provenance))
    train = load_from_disk(str(raw.path / "questions"))["train"]
    assert train[0]["output"]["provenance"] == [{"title": ["Rome"]}, {"title": ["Oslo"]}]


def test_equal_input_gives_equal_bytes(raw: Folder, tmp_path: Path):
    contents = []
    for _ in range(2):
        raw.articles(FIRST, SECOND)
        raw.questions(QUESTION)
        made = [path for name in ("articles", "questions") for path in sorted((tmp_path / name).rglob("*"))]
        contents.append({str(path): path.read_bytes() for path in made if path.is_file()})
    assert contents[0] == contents[1]
    assert not any("stream" in path for path in contents[0])


def test_a_question_without_an_answer_is_kept_and_counted(raw: Folder):
    raw.articles(FIRST)
    empty = changed(changed(QUESTION, "output.answer", ["the", "?"]), "output.original_answer", "")
    raw.questions(QUESTION, changed(empty, "id", "q2"))
    assert len(load_from_disk(str(raw.path / "questions"))["train"]) == 2
    report = json.loads((raw.path / "questions.json").read_text())
    assert report["train"]["no answer"] == {"count": 1, "examples": ["q2"]}
    assert report["train"]["questions"] == 2


def test_fewer_entities_than_a_batch_holds_are_refused_before_anything_is_made(raw: Folder):
    raw.articles(FIRST, SECOND)
    second = changed(QUESTION, "wikidata_id", SECOND["wikidata_info"]["wikidata_id"])
    train = [QUESTION, changed(QUESTION, "id", "q2"), changed(second, "id", "q3")]
    batch = LargestBatch(3, "training.tasks.t.batch_size", "a_full_none_avg")
    message = r"^training\.tasks\.t\.batch_size: 3 questions of distinct .* have 2 \(of a_full_none_avg\); set it to 2"
    with pytest.raises(InputError, match=message):
        raw.questions(*train, batch=batch)
    assert not (raw.path / "questions").exists()
    raw.questions(*train, batch=batch._replace(questions=2))
    report = json.loads((raw.path / "questions.json").read_text())
    assert {split: counts["entities"] for split, counts in report.items()} == {"train": 2, "validation": 1, "test": 1}


def test_what_limits_allow_is_left_out_and_counted(raw: Folder):
    raw.articles(FIRST)
    wrong = [
        changed(QUESTION, "id", 7),
        QUESTION,
        changed(QUESTION, "wikidata_id", "Q1"),
        changed(QUESTION, "image", "g"),
    ]
    wrong = [*wrong[:2], *(changed(record, "id", f"w{row}") for row, record in enumerate(wrong[2:]))]
    limits = {"malformed": 1, "repeated": 1, "no article": 1, "missing image": 1, "no text": 0}
    raw.questions(QUESTION, *wrong, limits=limits)
    assert load_from_disk(str(raw.path / "questions"))["train"]["id"] == ["q1"]
    report = json.loads((raw.path / "questions.json").read_text())["train"]
    assert {kind: report[kind]["count"] for kind in limits if kind in report} == dict.fromkeys(list(limits)[:4], 1)
    assert "line 5: field 'image' names g" in report["missing image"]["examples"][0]
    with pytest.raises(InputError, match=r"names g, and .* \(and 1 records before it; limits.missing image allows 1\)"):
        raw.questions(QUESTION, *wrong, changed(changed(QUESTION, "image", "g"), "id", "w"), limits=limits)


def test_questions_without_images_are_linked_by_the_titles_that_hold_their_answers(raw: Folder):
    raw.articles(FIRST, changed(SECOND, "wikidata_info", {"wikidata_id": "Q585"}))
    provenance = [{"title": []}, {"title": ["Nowhere"]}, {"title": ["Oslo", "Rome"]}, {"title": ["Rome"]}]
    bare = {
        "id": "q1",
        "input": "Is Oslo old?",
        "output": {"original_answer": "x", "answer": [], "provenance": provenance},
    }
    raw.questions(bare, train_like=True, images=None, link="provenance")
    row = load_from_disk(str(raw.path / "questions"))["train"][0]
    assert (row["article"], row["wikidata_id"], row["image"]) == (1, "Q585", None)
    assert row["original_question"] == "Is Oslo old?"
    raw.questions(bare | {"wikidata_id": "Q220"}, train_like=True, images=None, link="provenance")
    assert load_from_disk(str(raw.path / "questions"))["train"][0]["article"] == 0
    with pytest.raises(InputError, match=r"line 1: no article has a title of 'output.provenance'"):
        raw.questions(changed(bare, "output.provenance", []), train_like=True, images=None, link="provenance")


def test_kilts_list_of_answers_is_read_as_one_output(raw: Folder):
    raw.articles(FIRST)
    kilt = [
        {"answer": "old", "meta": {"score": 0}, "provenance": []},
        {"answer": "", "provenance": [{"title": "Rome", "wikipedia_id": "1"}, {"title": "Oslo", "wikipedia_id": "2"}]},
        {"answer": None, "provenance": [{"title": "", "wikipedia_id": ""}]},
    ]
    raw.questions(changed(QUESTION, "output", kilt))
    output = load_from_disk(str(raw.path / "questions"))["train"][0]["output"]
    assert output == {"original_answer": "", "answer": ["old"], "provenance": [{"title": ["Rome", "Oslo"]}]}


def test_records_of_every_format_and_of_folders_are_the_same(tmp_path: Path):
    records = [changed(QUESTION, "id", f"q{row}") for row in range(5)]
    table = pa.Table.from_pylist(records)
    write_jsonl(tmp_path / "a.jsonl", records)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    pq.write_table(table, tmp_path / "c.parquet")
    Dataset.from_list(records).save_to_disk(str(tmp_path / "d"))
    (tmp_path / "e").mkdir()
    for part in (0, 1):
        pq.write_table(table[3 * part : 3 * part + 3], tmp_path / "e" / f"{part}.parquet")
    for name, place in (("a.jsonl", "line 5"), ("b.jsonl.gz", "line 5"), ("c.parquet", "row 5"), ("d", "row 5")):
        read = list(read_records([tmp_path / name]))
        assert [record.values for record in read] == records
        assert read[-1].place == f"{tmp_path / name}, {place}"
    assert [record.values for record in read_records([tmp_path / "e"])] == records


def test_broken_files_are_one_line(tmp_path: Path):
    write_jsonl(tmp_path / "a.jsonl", [QUESTION] * 2000)
    packed = gzip.compress((tmp_path / "a.jsonl").read_bytes())
    for name, content in (("half.gz", packed[: len(packed) // 2]), ("no.gz", b"{}"), ("no.parquet", b"PAR1")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"broken after line|cannot be read as Parquet") as raised:
            list(read_records([tmp_path / name]))
        assert "\n" not in str(raised.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: an empty folder, expected files of records"):
        list(read_records([tmp_path / "empty"]))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("wikipedia_title", ..., "line 2: field 'wikipedia_title' is missing"),
        ("wikipedia_title", " ", "line 2: field 'wikipedia_title' is empty"),
        ("wikipedia_id", 7, "line 2: field 'wikipedia_id' is int, expected str"),
        ("text", "Rome", "line 2: field 'text' is str, expected dict; write .*the title, a paragraph"),
        ("text", ..., "line 2: field 'text.paragraph' is missing"),
        ("text.paragraph", "Rome", "line 2: field 'text.paragraph' is str, expected list"),
        ("text.paragraph", ["Rome", None], "line 2: field 'text.paragraph' holds NoneType, expected strings"),
        ("wikidata_info", "Q1", "line 2: field 'wikidata_info' is str, expected dict"),
        ("wikipedia_id", "1", "line 2: field 'wikipedia_id' is 1, as at .*line 1; remove one"),
    ],
)
def test_a_wrong_article_is_an_error_with_line_and_field(raw: Folder, field: str, value: object, message: str):
    with pytest.raises(InputError, match=message) as raised:
        raw.articles(FIRST, changed(SECOND, field, value))
    assert "\n" not in str(raised.value)
    assert not list(raw.path.glob("*articles*"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("id", "", "line 2: field 'id' is empty"),
        ("id", "q1", "line 2: field 'id' is q1, as at .*line 1; remove one"),
        ("id", "test1", r"test\.jsonl, line 1: field 'id' is test1, as at .*train\.jsonl, line 2"),
        ("input", ..., "line 2: field 'input' is missing"),
        ("wikidata_id", "Q1", "line 2: field 'wikidata_id' is Q1, and no article has it"),
        ("image", "gone.jpg", "line 2: field 'image' names gone.jpg, and .*images holds no such file"),
        ("image", "../train.jsonl", "line 2: field 'image' is '../train.jsonl', expected a file name without folders"),
        ("output", ["old"], r"line 2: field 'output' is list, expected dict; write .output.: ..answer.: ..old..."),
        ("output", "old", "line 2: field 'output' is str, expected dict"),
        ("output", None, "line 2: field 'output' is missing"),
        ("output.answer", "old", "line 2: field 'output.answer' is str, expected list"),
        ("output.answer", [1], "line 2: field 'output.answer' holds int, expected strings"),
        ("output.provenance", "Rome", "line 2: field 'output.provenance' is str, expected list"),
        ("output.provenance", [{"title": "Rome"}], "line 2, output.provenance: field 'title' is str, expected list"),
    ],
)
def test_a_wrong_question_is_an_error_with_line_and_field(raw: Folder, field: str, value: object, message: str):
    raw.articles(FIRST)
    with pytest.raises(InputError, match=message) as raised:
        raw.questions(QUESTION, changed(changed(QUESTION, "id", "q2"), field, value))
    assert "\n" not in str(raised.value)
    assert not list(raw.path.glob("*questions*"))


def test_articles_that_share_an_entity_are_kept_and_a_question_is_linked_to_one(raw: Folder):
    third = changed(changed(FIRST, "wikipedia_id", "3"), "wikipedia_title", "Rome (city)")
    raw.articles(SECOND, FIRST, third)
    assert load_from_disk(str(raw.path / "articles"))["id"] == ["2", "1", "3"]
    shared = json.loads((raw.path / "articles.json").read_text())["shared wikidata id"]
    assert shared["count"] == 1
    assert "line 3: field 'wikidata_info.wikidata_id' is Q220, as at" in shared["examples"][0]
    for titles, row in ((["Nowhere"], 1), (["Rome (city)"], 2), (["Nowhere", "Oslo", "Rome (city)", "Rome"], 1)):
        provenance = [{"title": [title]} for title in titles]
        for link in ("wikidata", "provenance"):
            raw.questions(changed(QUESTION, "output.provenance", provenance), link=link)
            assert load_from_disk(str(raw.path / "questions"))["train"]["article"] == [row]
    with pytest.raises(InputError, match=r"line 3: .* is Q220, as at .*line 2; remove one"):
        raw.articles(SECOND, FIRST, third, limits={"shared wikidata id": 0})


def test_repeated_articles_are_kept_up_to_their_limit(raw: Folder):
    again = changed(changed(SECOND, "wikipedia_id", "1"), "wikidata_info.wikidata_id", "Q3")
    raw.articles(FIRST, SECOND, again, limits={"repeated": 1})
    assert load_from_disk(str(raw.path / "articles"))["id"] == ["1", "2", "1"]
    assert json.loads((raw.path / "articles.json").read_text())["repeated"]["count"] == 1
    with pytest.raises(InputError, match=r"line 3: field 'wikipedia_id' is 1, as at .*line 1"):
        raw.articles(FIRST, SECOND, again)


def test_a_malformed_line_is_an_error_with_its_number(raw: Folder):
    path = raw.path / "wikipedia.jsonl"
    path.write_text(f"{json.dumps(FIRST)}\n\n{{broken\n")
    with pytest.raises(InputError, match=r"wikipedia\.jsonl, line 3: not valid JSON"):
        raw.import_articles(path)
    raw.articles(FIRST)
    raw.questions(QUESTION)
    (raw.path / "test.jsonl").write_text("[1]\n")
    with pytest.raises(InputError, match=r"test\.jsonl, line 1: expected an object"):
        raw.import_questions()


def test_no_articles_and_no_questions_are_errors(raw: Folder):
    with pytest.raises(InputError, match=r"wikipedia\.jsonl: the knowledge base is empty"):
        raw.articles()
    raw.articles(FIRST)
    with pytest.raises(InputError, match=r"train\.jsonl: no question in this file"):
        raw.questions()


def test_more_problems_than_the_limit_are_an_error(raw: Folder):
    raw.articles(FIRST, SECOND, limits={"no text": 1, "no image": 1})
    with pytest.raises(InputError, match=r"1 records with no text \(such as Oslo\), limits allow 0"):
        raw.articles(FIRST, SECOND, limits={"no text": 0})
    with pytest.raises(InputError, match="limits: kind 'no texts' is unknown: use no text, no image"):
        raw.articles(FIRST, limits={"no texts": 0})
    raw.articles(FIRST)
    empty = changed(changed(QUESTION, "output.answer", []), "output.original_answer", None)
    with pytest.raises(InputError, match=r"train\.jsonl: 1 records with no answer"):
        raw.questions(empty, limits={"no answer": 0})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "input",
            "half \ud83d",
            r"field 'input' has a lone surrogate, '\\ud83d', which UTF-8 cannot encode; remove it",
        ),
        ("output.answer", ["x", "\udc00"], r"field 'output.answer' has a lone surrogate, '\\udc00'"),
        ("output.provenance", [{"title": ["\ud83d"]}], "output.provenance: field 'title' has a lone surrogate"),
        ("id", "two words", "field 'id' is 'two words', expected a word without white space"),
        ("id", "q\x85", r"field 'id' is 'q\\x85', expected a word without white space"),
        ("id", "\ufeffq", r"field 'id' is '\\ufeffq', expected a word without white space"),
        ("image", "x" * 5000, "field 'image' names xxx.*, and .*images holds no such file"),
        ("image", "a\0b", r"field 'image' names a\\x00b, and .*images holds no such file"),
    ],
)
def test_what_files_cannot_hold_costs_one_record(raw: Folder, field: str, value: object, message: str):
    raw.articles(FIRST)
    wrong = changed(changed(QUESTION, "id", "q2"), field, value)
    with pytest.raises(InputError, match=rf"line 2(, output.provenance)?: {message}|line 2, {message}"):
        raw.questions(QUESTION, wrong, changed(QUESTION, "id", "q3"))
    raw.questions(QUESTION, wrong, changed(QUESTION, "id", "q3"), limits={"malformed": 1, "missing image": 1})
    assert load_from_disk(str(raw.path / "questions"))["train"]["id"] == ["q1", "q3"]


DEEP = b"[" * 100_000
LONG = b'{"id": ' + b"9" * 5000 + b"}"


@pytest.mark.parametrize("line", [DEEP, LONG, b"\xff\xfe{", b"{broken", b"[1]"])
def test_a_line_that_cannot_be_read_costs_itself(raw: Folder, line: bytes):
    for name, record, make in (("wikipedia", FIRST, raw.import_articles), ("train", QUESTION, raw.import_questions)):
        if name == "train":
            raw.questions(QUESTION)
        path = raw.path / f"{name}.jsonl"
        path.write_bytes(line + b"\n" + json.dumps(record).encode() + b"\n")
        files = (path,) if name == "wikipedia" else ()
        with pytest.raises(InputError, match=rf"{name}\.jsonl, line 1: ") as raised:
            make(*files, limits={})
        assert "\n" not in str(raised.value)
        make(*files, limits={"malformed": 1})
    assert load_from_disk(str(raw.path / "articles"))["id"] == ["1"]
    assert load_from_disk(str(raw.path / "questions"))["train"]["id"] == ["q1"]


def test_a_row_of_a_table_that_cannot_be_read_costs_itself(raw: Folder):
    bad = pa.array([b"Rome", b"\xff\xfe", b"Oslo"]).view(pa.string())
    rows = pa.table({"wikipedia_id": ["1", "2", "3"], "wikipedia_title": bad, "text": [["a"], ["b"], ["c"]]})
    pq.write_table(rows, raw.path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet, row 2: cannot be read \(UnicodeDecodeError"):
        raw.import_articles(raw.path / "a.parquet")
    raw.import_articles(raw.path / "a.parquet", limits={"malformed": 1})
    assert load_from_disk(str(raw.path / "articles"))["title"] == ["Rome", "Oslo"]


class UnheardOf(Exception):
    """Of a library that nobody knows."""


@pytest.mark.parametrize("raised", [UnheardOf("\ud800\nx"), RecursionError("deep"), OverflowError(), KeyError("k")])
def test_whatever_a_record_makes_us_raise_costs_that_record(raw: Folder, monkeypatch, raised: Exception):
    def fail_at_first(module, name):
        function = getattr(module, name)

        def call(record, *arguments, **options):
            if record.place.endswith("line 1"):
                raise raised
            return function(record, *arguments, **options)

        monkeypatch.setattr(module, name, call)

    raw.articles(FIRST)
    raw.questions(QUESTION)
    fail_at_first(articles, "_paragraphs")
    fail_at_first(questions, "read_output")
    write_jsonl(raw.path / "wikipedia.jsonl", [SECOND, FIRST])
    write_jsonl(raw.path / "train.jsonl", [changed(QUESTION, "id", "q0"), QUESTION])
    for split in ("validation", "test"):
        path = raw.path / f"{split}.jsonl"
        path.write_bytes(b"\n" + path.read_bytes())
    told = rf"line 1: cannot be used \({type(raised).__name__}"
    with pytest.raises(InputError, match=rf"wikipedia\.jsonl, {told}"):
        raw.import_articles(raw.path / "wikipedia.jsonl")
    with pytest.raises(InputError, match=rf"train\.jsonl, {told}") as caught:
        raw.import_questions()
    assert "\n" not in str(caught.value)
    raw.import_articles(raw.path / "wikipedia.jsonl", limits={"malformed": 1})
    raw.import_questions({"malformed": 1})
    assert load_from_disk(str(raw.path / "questions"))["train"]["id"] == ["q1"]
    assert json.loads((raw.path / "articles.json").read_text())["malformed"]["count"] == 1
