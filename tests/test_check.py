"""`vlret data check` finds every mistake in somebody's own data at once, and nothing once its advice was followed."""

import gzip
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from vlret.cli import main
from vlret.files import write_jsonl

ROOT = Path(__file__).parents[1]
CONFIG = """
dataset: mine
datasets:
  mine:
    source:
      questions: {path: mine}
      wikipedia: {path: mine}
      images: {path: mine/images}
    passages: {unit: tokens, tokens: 100}
grid:
  product:
    - {model: bm25, tuning: zs, prefix: none, pooling: none}
"""
ARTICLE = {
    "wikipedia_id": "1",
    "wikipedia_title": "Rome",
    "image": "rome.jpg",
    "wikidata_id": "Q220",
    "text": {"paragraph": ["Rome\n", "Rome is the capital of Italy.\n"]},
}
QUESTION = {
    "id": "q",
    "input": "in which city did he die?",
    "image": "rome.jpg",
    "wikidata_id": "Q220",
    "output": {"original_answer": "Rome", "answer": ["Rome", "Roma"]},
}


class Mine:
    """A folder with somebody's own data, all right at first, and what a check says of it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture):
        self.folder, self.capsys = folder, capsys
        (folder / "mine" / "images").mkdir(parents=True)
        (folder / "mine.yaml").write_text(CONFIG)
        (folder / "config").symlink_to(ROOT / "config")
        Image.new("RGB", (8, 8), "red").save(folder / "mine" / "images" / "rome.jpg")
        self.write("wikipedia", ARTICLE)
        for split in ("train", "validation", "test"):
            self.write(split, self.question(f"{split}1"))

    @staticmethod
    def question(own: str, **fields: object) -> dict:
        return {key: value for key, value in {**QUESTION, "id": own, **fields}.items() if value is not ...}

    def write(self, name: str, *records: dict) -> None:
        write_jsonl(self.folder / "mine" / f"{name}.jsonl", list(records))

    def told(self, mistakes: bool = True) -> list[str]:
        assert main(["data", "check", "--configfile", "mine.yaml"]) == int(mistakes)
        printed = self.capsys.readouterr()
        assert ("mistakes in the data: " in printed.err) == mistakes
        return printed.out.splitlines()


@pytest.fixture
def mine(tmp_path: Path, monkeypatch, capsys) -> Mine:
    monkeypatch.chdir(tmp_path)
    return Mine(tmp_path, capsys)


def test_right_data_are_counted(mine: Mine):
    assert mine.told(mistakes=False)[:4] == [
        "1 articles of mine: 0 with no text, 0 with no image, 0 with no wikidata id, 0 with shared wikidata id",
        "1 train questions of mine: 0 with no answer",
        "1 validation questions of mine: 0 with no answer",
        "1 test questions of mine: 0 with no answer",
    ]
    assert not (mine.folder / "results").exists()


def test_a_dozen_mistakes_are_found_in_one_go_and_none_once_the_advice_was_followed(mine: Mine):
    good = mine.question
    mine.write(
        "train",
        good("train1", output={"answer": "Rome"}),
        good("train2", input=..., inptu="when?"),
        good("train3", image="Rome.png"),
        good("train4", wikidata_id="http://www.wikidata.org/entity/Q220"),
        good("train1"),
        good(7, image="gone.jpg", output={"answers": ["Rome"]}),
        good("train 8", output=["Rome"]),
        good("train9", image="page.jpg"),
        good("train10", wikidata_id="Q1"),
    )
    (mine.folder / "mine" / "images" / "page.jpg").write_text("not found")
    (mine.folder / "mine" / "validation.jsonl").write_text("id,input,image\nv1,when?,rome.jpg\nv2,where?,rome.jpg\n")
    (mine.folder / "mine" / "test.jsonl").rename(mine.folder / "mine" / "tests.jsonl")
    mine.write("wikipedia", ARTICLE, {**ARTICLE, "text": {"paragraphs": ["Oslo"]}}, {**ARTICLE, "wikidata_id": "Q2"})
    place = "mine/train.jsonl, line"
    assert mine.told() == [
        "mine/wikipedia.jsonl, line 2: field 'text.paragraph' is missing, and 'paragraphs' is there; "
        "did you mean 'paragraph'?",
        "mine/wikipedia.jsonl, line 3: field 'wikipedia_id' is 1, as at mine/wikipedia.jsonl, line 1; remove one",
        "mine/test.jsonl: does not exist, and nothing fetches it; did you mean 'mine/tests.jsonl'?",
        f"{place} 1: field 'output.answer' is str, expected list; write [\"Rome\"]",
        f"{place} 2: field 'input' is missing, and 'inptu' is there; did you mean 'input'?",
        f"{place} 3: field 'image' names Rome.png, and mine/images holds no such file; did you mean 'rome.jpg'?",
        f"{place} 4: field 'wikidata_id' is http://www.wikidata.org/entity/Q220, and no article has it; "
        "did you mean 'Q220'?",
        f"{place} 5: field 'id' is train1, as at {place} 1; remove one",
        f"{place} 6: field 'output.answer' is missing, and 'answers' is there; did you mean 'answer'?",
        f"{place} 6: field 'id' is int, expected str; write \"7\"",
        f"{place} 6: field 'image' names gone.jpg, and mine/images holds no such file",
        f'{place} 7: field \'output\' is list, expected dict; write "output": {{"answer": ["Rome"]}}',
        f"{place} 7: field 'id' is 'train 8', expected a word without white space",
        f"{place} 9: field 'wikidata_id' is Q1, and no article has it",
        "mine/validation.jsonl, line 1: not valid JSON: JSONDecodeError: Expecting value: line 1 column 1 (char 0); "
        "it looks like CSV; JSON lines are needed",
        f"{place} 8: field 'image': mine/images/page.jpg: not an image of a known format "
        "(JPEG, PNG, GIF, WEBP, TIFF, SVG)",
    ]
    mine.write("wikipedia", ARTICLE, {**ARTICLE, "wikipedia_id": "2", "wikidata_id": "Q1"})
    mine.write("train", *(good(f"train{number}") for number in range(9)), good("train10", wikidata_id="Q1"))
    mine.write("validation", good("v1"), good("v2"))
    (mine.folder / "mine" / "tests.jsonl").rename(mine.folder / "mine" / "test.jsonl")
    assert mine.told(mistakes=False)[1] == "10 train questions of mine: 0 with no answer"


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b'[{"id": "v1"}]', "one object a line, not an array"),
        (b'[\n {"id": "v1"},\n {"id": "v2"}\n]\n', "one object a line, not an array"),
        (b'{\n "id": "v1"\n}\n', "one object a line, not spread over several"),
        (b"id\tinput\nv1\twhen?\n", "it looks like CSV; JSON lines are needed"),
        (gzip.compress(b"{}"), "it is compressed; its name must end in .gz"),
        (b"PAR1\x15\x04", "it is Parquet; its name must end in .parquet"),
        (f"{json.dumps(QUESTION)}\n".encode("utf-16") * 2, "it is UTF-16; save it as UTF-8"),
        (b"<!DOCTYPE html>\n<html>", "it looks like a web page or XML; JSON lines are needed"),
        (json.dumps({**QUESTION, "input": "où?"}, ensure_ascii=False).encode("latin-1"), "save the file as UTF-8"),
        (b"{'id': 'v1'}", "JSON needs double quotes"),
        (json.dumps(QUESTION).encode() + b",", "remove the comma at its end"),
        (b"", "no question in this file; every split needs some"),
        (b"\n\n", "no question in this file; every split needs some"),
    ],
)
def test_a_file_of_another_format_is_one_line_that_says_what_is_needed(mine: Mine, content: bytes, advice: str):
    (mine.folder / "mine" / "validation.jsonl").write_bytes(content)
    (told,) = mine.told()
    assert told.startswith("mine/validation.jsonl")
    assert told.endswith(advice)


def test_what_limits_allow_is_no_mistake_and_what_they_do_not_is(mine: Mine):
    mine.write("train", mine.question("a"), mine.question("b", image="gone.jpg"), mine.question("c", output={}))
    assert len(mine.told()) == 1
    allowed = "    limits: {missing image: 1}\n"
    path = mine.folder / "mine.yaml"
    path.write_text(CONFIG.replace("grid:", f"{allowed}grid:"))
    assert "2 train questions of mine: 1 with no answer, 1 with missing image" in mine.told(mistakes=False)
    path.write_text(path.read_text().replace("image: 1", "image: 1, no answer: 0"))
    assert mine.told() == ["mine/train.jsonl, line 3: field 'output' has no answer"]


def test_a_hundred_lines_are_shown_and_the_others_counted(mine: Mine):
    mine.write("train", *(mine.question(f"a{row}", input=1) for row in range(90)))
    mine.write("test", *(mine.question(f"b{row}", image="gone.jpg") for row in range(30)))
    told = mine.told()
    assert len(told) == 101
    assert told[-1] == "and 20 more: 20 missing image"


def test_passages_runs_and_entities_are_read_too(mine: Mine):
    path = mine.folder / "mine.yaml"
    own = "passages: {path: mine}"
    config = CONFIG.replace("    passages: {unit: tokens, tokens: 100}\n", "").replace(
        "images: {path: mine/images}", f"images: {{path: mine/images}}\n      {own}"
    )
    entities = """
  more:
    source: {entities: {path: mine}, images: {path: mine/images}, of: mine, without: [],
             split: {train: 0.5, validation: 0.25, test: 0.25}}
grid:"""
    path.write_text(
        config.replace("\ngrid:", entities, 1) + "runs:\n  theirs: {validation: a.trec, test: mine/b.trec}\n"
    )
    mine.write("passages", {"passage": "Rome [SEP] text", "index": 0}, {"passage": "Oslo", "index": 0}, {"index": "0"})
    (mine.folder / "mine" / "entities.json").write_text('{"Q220": ["rome.jpg"], "Q1": "a.jpg", "Q2": [1]}')
    (mine.folder / "a.trec").write_text("validation1 Q0 0 1 2.0 t\n")
    (mine.folder / "mine" / "b.trec").write_text("test1 Q0 0 1 high t\ntest1 Q0 1\ntest1 Q0 x 1 1.0 t\n")
    assert mine.told() == [
        "mine/passages.jsonl, line 2: field 'passage' begins with 'Oslo', but article 0 is 'Rome'; import the articles "
        "in the order of the published ones",
        "mine/passages.jsonl, line 3: field 'index' is str, expected int; write 0",
        "mine/entities.json: field 'Q1' is not a list of file names or addresses; write [\"a.jpg\"]",
        "mine/entities.json: field 'Q2' is not a list of file names or addresses",
        "mine/b.trec, line 1: score 'high' is not a finite number",
        "mine/b.trec, line 2: expected 6 fields, found 3",
        "mine/b.trec, line 3: passage id 'x' is not a row number of at most 8 digits",
    ]


def test_a_folder_that_is_not_there_is_one_line(mine: Mine):
    (mine.folder / "mine").rename(mine.folder / "yours")
    told = "{}: {} is not a folder; fix the source's path in the config".format
    assert mine.told() == [
        told("mine-wikipedia", "mine"),
        told("mine-questions", "mine"),
        told("mine-images", "mine/images"),
        "mine: links to articles are not checked, since those cannot be read",
        "mine: images are not checked, since their folder does not exist",
    ]


def test_a_job_says_the_same_of_the_users_own_path(mine: Mine):
    mine.write("train", mine.question("train1", image="Rome.jpeg"))
    expected = mine.told()
    for name in ("questions", "wikipedia", "images"):
        source = {"name": f"mine-{name}", "path": "mine", "files": {"wikipedia": "wikipedia.jsonl"}}
        if name == "questions":
            source["files"] = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}
        if name == "images":
            source |= {"path": "mine/images", "files": {"images": "."}}
        words = ["data", "source", "--source", json.dumps(source), "--out", f"results/downloads/sources/mine-{name}"]
        assert main(words) == 0
    links = "results/downloads/sources"
    wikipedia = ["--wikipedia", f"{links}/mine-wikipedia/wikipedia.jsonl", "--limits", "{}"]
    assert main(["data", "articles", *wikipedia, "--out", "a", "--report", "a.json"]) == 0
    splits = [f"--{split}={links}/mine-questions/{split}.jsonl" for split in ("train", "validation", "test")]
    how = ["--articles", "a", "--images", f"{links}/mine-images/images", "--link", "wikidata", "--limits", "{}"]
    mine.capsys.readouterr()
    assert main(["data", "questions", *splits, *how, "--out", "q", "--report", "q.json"]) == 1
    assert mine.capsys.readouterr().err.splitlines()[-1] == f"vlret: error: {expected[0]}"


def test_the_page_shows_what_is_printed(mine: Mine):
    page = (ROOT / "docs" / "own-data.md").read_text()
    shown = re.search(r"```\n(mine/wikipedia\.jsonl, line 3.*?)```", page, re.DOTALL)[1].splitlines()
    second = {**ARTICLE, "wikipedia_id": "2", "wikidata_id": "Q2"}
    mine.write("wikipedia", ARTICLE, second, {**ARTICLE, "wikidata_id": "Q3"})
    (mine.folder / "mine" / "test.jsonl").rename(mine.folder / "mine" / "tests.jsonl")
    wrong = ({"output": {"answer": "Rome"}}, {"input": ..., "inptu": "when?"}, {"image": "Rome.png"})
    mine.write("train", *(mine.question(f"train{number}", **fields) for number, fields in enumerate(wrong)))
    assert main(["data", "check", "--configfile", "mine.yaml"]) == 1
    printed = mine.capsys.readouterr()
    assert printed.out.splitlines() == shown[:-1]
    assert printed.err.splitlines()[-1] == shown[-1]


def test_articles_images_are_counted_and_a_limit_on_what_they_lack_holds(mine: Mine):
    mine.write("wikipedia", ARTICLE, {**ARTICLE, "wikipedia_id": "2", "wikidata_id": "Q2", "image": "oslo.jpg"})
    assert mine.told(mistakes=False)[-1] == (
        "1 of 2 images of articles are unusable, such as mine/images/oslo.jpg: no such file, the image of an article"
    )
    path = mine.folder / "mine.yaml"
    path.write_text(CONFIG.replace("grid:", "    limits: {unreadable image: 0, no image: 0}\ngrid:"))
    mine.write("wikipedia", ARTICLE, {**ARTICLE, "wikipedia_id": "2", "wikidata_id": "Q2", "image": None})
    assert mine.told() == ["mine/wikipedia.jsonl: article 'Rome' has no image"]
    mine.write("wikipedia", ARTICLE, {**ARTICLE, "wikipedia_id": "2", "wikidata_id": "Q2", "image": "oslo.jpg"})
    assert mine.told() == ["mine/images/oslo.jpg: no such file, the image of an article"]


def test_the_job_that_stands_for_a_missing_file_names_one_that_is_near(mine: Mine):
    assert main(["data", "missing", "--file", "mine/train.json"]) == 1
    assert "does not exist, and nothing fetches it; did you mean 'mine/train.jsonl'?" in mine.capsys.readouterr().err


def test_a_file_that_two_datasets_read_is_told_of_once(mine: Mine):
    other = """
  other:
    source: {questions: {path: mine}, images: {path: mine/images}}
    knowledge_base: mine
grid:"""
    (mine.folder / "mine.yaml").write_text(CONFIG.replace("\ngrid:", other, 1))
    mine.write("train", mine.question("a", wikidata_id="Q3"))
    (mine.folder / "mine" / "test.jsonl").write_text("id;input\n")
    told = mine.told()
    assert [line.partition(": ")[0] for line in told] == ["mine/train.jsonl, line 1", "mine/test.jsonl, line 1"]
