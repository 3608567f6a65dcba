import errno
import json
from pathlib import Path

import pytest
from datasets import load_from_disk
from hub_server import serve

from vlret.data import transfer
from vlret.data.articles import ARTICLE
from vlret.data.entities import PASSAGE, build, file_of, find_images
from vlret.data.entity_images import fetch_images
from vlret.data.questions import QUESTION
from vlret.data.tables import write_splits, write_table
from vlret.files import InputError, write_json
from vlret.settings import SPLITS, Split

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
ENTITIES = 60
SHARES = Split(train=0.5, validation=0.25, test=0.25)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A knowledge base of Q0 to Q59: Q-n has n % 4 images and (n // 4) % 3 passages; ViQuAE asks for Q3 and Q7."""
    numbers = range(ENTITIES)
    articles = [
        {"id": str(n), "title": f"T{n}", "paragraphs": [], "image": None, "wikidata_id": f"Q{n}"} for n in numbers
    ]
    passages = [{"article": n, "title": f"T{n}", "text": f"text {n} {m}"} for n in numbers for m in range((n // 4) % 3)]
    write_table(articles, ARTICLE, tmp_path / "articles", empty="")
    write_table(passages, PASSAGE, tmp_path / "passages", empty="")
    output = {"original_answer": "x", "answer": [], "provenance": []}
    asked = [
        {"id": e, "input": "?", "image": "x", "wikidata_id": e, "output": output, "article": 0} for e in ("Q3", "Q7")
    ]
    write_splits(dict.fromkeys(SPLITS, asked), QUESTION, tmp_path / "questions")
    (tmp_path / "images").mkdir()
    for n in numbers:
        for image in range(n % 4):
            (tmp_path / "images" / f"{n} {image}.jpg").write_bytes(b"x")
    table = {f"Q{n}": [f"http://commons.example/wiki/File/{n}%20{i}.jpg" for i in range(n % 4)] for n in numbers}
    write_json(tmp_path / "table.json", {**table, "Q999": ["a.jpg", "b.jpg"]})
    return tmp_path


def made(base: Path, name: str, least: int = 0, seed: int = 0, split: Split = SHARES) -> dict:
    files = {"articles": base / "articles", "passages": base / "passages", "images": base / "images"}
    files |= {"table": base / "table.json", "without": [base / "questions"], "out": base / name}
    build(**files, least_passages=least, split=split, seed=seed)
    tables = {part: load_from_disk(str(base / name / part)) for part in ("articles", "passages", "questions")}
    return {**tables, "report": json.loads((base / name / "entities.json").read_text())}


def entities(tables: dict) -> dict[str, str]:
    """Entity -> split."""
    return {entity: name for name, rows in tables["questions"].items() for entity in rows["wikidata_id"]}


def test_entities_with_two_images_are_taken_but_those_of_questions(base: Path):
    wikimage = made(base, "wikimage")
    wanted = [f"Q{n}" for n in range(ENTITIES) if n % 4 >= 2 and n not in (3, 7)]
    assert wikimage["articles"]["wikidata_id"] == wanted
    assert set(entities(wikimage)) == set(wanted)
    counts = {name: sum(place == name for place in entities(wikimage).values()) for name in SPLITS}
    assert counts == {"train": 14, "validation": 7, "test": 7}
    report = wikimage["report"]
    assert (report["entities"], report["with an article"], report["with several images"]) == (61, 60, 28)
    assert report["of questions left out"] == 2
    assert report["missing image"] == {"count": 2, "examples": ["a.jpg", "b.jpg"]}


def test_the_first_image_is_the_articles_and_the_others_ask_for_it(base: Path):
    wikimage = made(base, "wikimage")
    own = {row["wikidata_id"]: row for row in wikimage["articles"]}
    assert own["Q11"]["image"] == "11 0.jpg"
    asked = [row for rows in wikimage["questions"].values() for row in rows if row["wikidata_id"] == "Q11"]
    assert [(row["id"], row["image"], row["input"]) for row in asked] == [
        ("Q11-1", "11 1.jpg", ""),
        ("Q11-2", "11 2.jpg", ""),
    ]
    for row in asked:
        assert wikimage["articles"][row["article"]]["wikidata_id"] == "Q11"


def test_multimedia_has_two_passages_and_the_same_split(base: Path):
    wikimage, multimedia = entities(made(base, "wikimage")), made(base, "multimedia", least=2)
    kept = entities(multimedia)
    assert set(kept) == {entity for entity in wikimage if (int(entity[1:]) // 4) % 3 >= 2}
    assert all(wikimage[entity] == place for entity, place in kept.items())
    for row in multimedia["passages"]:
        article = multimedia["articles"][row["article"]]
        assert (row["title"], row["text"].split()[1]) == (article["title"], article["id"])
    assert len(multimedia["passages"]) == 2 * len(kept)


def test_the_seed_alone_decides_about_the_split(base: Path):
    first, again, other = (entities(made(base, name, seed=seed)) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert first == again
    assert first != other


def test_images_are_fetched_from_their_addresses_and_only_those_that_are_missing(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    handler, address, stop = serve(monkeypatch)
    first, second = JPEG + b"first", JPEG + b"second"
    handler.files = {"a b.jpg": first, "c.jpg": second, "there.jpg": b"not asked for", "page.jpg": b"<!doctype html>"}
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "there.jpg").write_bytes(b"there")
    base = f"{address}/resolve/main/"
    write_json(
        tmp_path / "table.json",
        {"Q1": [f"{base}a%20b.jpg", f"{base}c.jpg"], "Q2": [f"{base}there.jpg", f"{base}gone", f"{base}page.jpg"]},
    )
    arguments = tmp_path / "table.json", "mail@example.org", tmp_path / "images", tmp_path / "report.json"
    try:
        fetch_images(*arguments)
        assert sorted(name for name, _ in handler.asked) == ["a b.jpg", "c.jpg", "page.jpg"]
        handler.asked = []
        fetch_images(*arguments)
        assert [name for name, _ in handler.asked] == ["page.jpg"]
    finally:
        stop()
    held = {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    names = [file_of(f"{base}{name}") for name in ("a%20b.jpg", "c.jpg")]
    assert held == {names[0]: first, names[1]: second, "there.jpg": b"there"}
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["images"], report["missing"]["count"]) == (3, 2)
    assert "404" in report["missing"]["examples"][f"{base}gone"]
    assert "not an image (JPEG, PNG" in report["missing"]["examples"][f"{base}page.jpg"]


def test_addresses_that_end_alike_are_as_many_files(tmp_path: Path, monkeypatch):
    handler, address, stop = serve(monkeypatch)
    handler.files = {f"{number}/photo.png": PNG + str(number).encode() for number in (1, 2)}
    base = f"{address}/resolve/main/"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "photo.png").write_bytes(b"of neither, or of one: nobody knows")
    write_json(tmp_path / "table.json", {f"Q{n}": [f"{base}{n}/photo.png", f"{base}{n}/photo.png"] for n in (1, 2)})
    try:
        fetch_images(tmp_path / "table.json", "x", tmp_path / "images", tmp_path / "report.json")
    finally:
        stop()
    found = find_images(tmp_path / "table.json", tmp_path / "images").found
    held = {entity: [(tmp_path / "images" / file).read_bytes() for file in files] for entity, files in found.items()}
    assert held == {"Q1": [PNG + b"1"], "Q2": [PNG + b"2"]}


def test_an_address_that_cannot_be_used_costs_itself(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    handler, address, stop = serve(monkeypatch)
    base = f"{address}/resolve/main/"
    long = "x" * 300
    handler.files = {"à.jpg": JPEG + b"1", f"{long}.jpg": JPEG + b"2", "a b.jpg": JPEG + b"3"}
    usable = [f"{base}à.jpg", f"{base}{long}.jpg", f"{base}a b.jpg"]
    broken = ["http://[::1/a.jpg", "http://x:port/a.jpg", "http://\ud800.example/a.jpg", f"{base}\ud800.jpg", "http://"]
    broken += ["http://" + "y" * 70 + ".é/a.jpg", "ftp://x/a.jpg", "", f"{address}\0/a.jpg"]
    write_json(tmp_path / "table.json", {f"Q{n}": [name] for n, name in enumerate([*broken, *usable])})
    try:
        fetch_images(tmp_path / "table.json", "x", tmp_path / "images", tmp_path / "report.json")
    finally:
        stop()
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["images"], report["missing"]["count"]) == (3, len(broken))
    assert sorted(report["missing"]["examples"]) == sorted(broken)
    assert all(len(path.name) < 150 for path in (tmp_path / "images").iterdir())


def test_whatever_an_address_makes_us_raise_costs_it(tmp_path: Path, monkeypatch):
    class UnheardOf(Exception):
        """Of a library that nobody knows."""

    def fetch(address, out, *arguments, **options):
        if address.endswith("b.jpg"):
            raise UnheardOf("what is this?")
        out.write_bytes(JPEG)

    monkeypatch.setattr("vlret.data.entity_images.transfer", fetch)
    write_json(tmp_path / "table.json", {"Q1": ["http://x/a.jpg", "http://x/b.jpg", "http://x/c.jpg"]})
    fetch_images(tmp_path / "table.json", "x", tmp_path / "images", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["images"] == 2
    assert report["missing"]["examples"] == {
        "http://x/b.jpg": "http://x/b.jpg: cannot be fetched: UnheardOf: what is this?"
    }


def test_a_full_disk_is_no_fault_of_the_addresses(tmp_path: Path, monkeypatch):
    handler, address, stop = serve(monkeypatch)
    handler.files = {"a.jpg": JPEG, "b.jpg": JPEG}
    base = f"{address}/resolve/main/"
    write_json(tmp_path / "table.json", {"Q1": [f"{base}a.jpg", f"{base}b.jpg"]})

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer, "_receive", full)
    try:
        with pytest.raises(InputError, match=r"a-.*\.partial: cannot be written \(No space left on device\)"):
            fetch_images(tmp_path / "table.json", "x", tmp_path / "images", tmp_path / "report.json")
    finally:
        stop()


def test_where_no_image_can_be_had_the_reason_is_told(tmp_path: Path):
    write_json(tmp_path / "table.json", {"Q1": ["a.jpg", "file:///etc/passwd", "https://[x/.."]})
    with pytest.raises(InputError, match=r"none of its images can be found; a\.jpg: not a web address"):
        fetch_images(tmp_path / "table.json", "x", tmp_path / "images", tmp_path / "report.json")
    assert list((tmp_path / "images").iterdir()) == []


def test_wrong_tables_and_shares_are_one_line(base: Path):
    with pytest.raises(InputError, match="none of its 28 entities is in split test; raise its share"):
        made(base, "x", split=Split(train=0.5, validation=0.499, test=0.001))
    for content, message in (
        (["Q1"], "table.json: expected an object"),
        ({"Q1": "a.jpg"}, "table.json: field 'Q1' is not a list of file names"),
    ):
        write_json(base / "table.json", content)
        with pytest.raises(InputError, match=message):
            made(base, "x")
    assert not (base / "x").exists()
