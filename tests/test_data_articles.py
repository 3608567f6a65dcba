import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_from_disk
from published import article, entity, kilt_wikipedia, wikipedia, write

from vlret.data import articles as module
from vlret.data import records
from vlret.data.articles import import_articles
from vlret.data.passages import split
from vlret.files import InputError
from vlret.settings import Passages

KNOWN = (17, 9, 4)
TOKENS = Passages(tokens=100)


def imported(files: list[Path], out: Path, workers: int = 1, limits: dict | None = None) -> list[dict]:
    import_articles(files, limits or {}, out / "articles", out / "articles.json", workers)
    return load_from_disk(str(out / "articles")).to_list()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "BATCH", 3)


def test_the_published_knowledge_base_is_read_in_its_order_with_its_files_names_as_types(tmp_path: Path):
    rows = imported(wikipedia(tmp_path, KNOWN), tmp_path)
    assert [row["type"] for row in rows] == [
        *["non_humans"] * 17,
        *["humans_with_faces"] * 9,
        *["humans_without_faces"] * 4,
    ]
    expected = [article(0, entity(0, row, row >= 17)) for row in range(30)]
    assert [row["paragraphs"] for row in rows] == [record["text"]["paragraph"] for record in expected]
    assert [row["image"] for row in rows] == [record["image"] for record in expected]


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path, small_chunks: None):
    files = wikipedia(tmp_path, KNOWN)
    for workers in (1, 2):
        imported(files, tmp_path / str(workers), workers)
        split(tmp_path / str(workers) / "articles", TOKENS, tmp_path / str(workers) / "passages", workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    passages = load_from_disk(str(tmp_path / "2" / "passages"))
    assert passages["article"] == sorted(passages["article"])
    assert len(set(passages["article"])) == sum(KNOWN)


def test_a_long_table_is_several_files_and_reads_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_chunks):
    files = wikipedia(tmp_path, KNOWN)
    one = imported(files, tmp_path / "one")
    monkeypatch.setattr("vlret.data.tables.SHARD", 20_000)
    assert imported(files, tmp_path / "many") == one
    assert len(list((tmp_path / "many" / "articles").glob("*.arrow"))) > 2
    for name in ("one", "many"):
        split(tmp_path / name / "articles", TOKENS, tmp_path / name / "passages")
    several, single = (load_from_disk(str(tmp_path / name / "passages")).to_list() for name in ("many", "one"))
    assert several == single


def test_kilts_own_file_needs_neither_image_nor_wikidata_id(tmp_path: Path):
    path = kilt_wikipedia(tmp_path / "kilt.json", 4)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    del records[1]["wikidata_info"]
    del records[2]["wikidata_info"]["wikidata_id"]
    rows = imported([write(path, records)], tmp_path)
    assert [row["wikidata_id"] for row in rows] == ["Q100", None, None, "Q139"]
    assert [row["paragraphs"] for row in rows] == [record["text"] for record in records]
    assert {row["image"] for row in rows} == {row["type"] for row in rows} == {None}
    report = json.loads((tmp_path / "articles.json").read_text())
    assert report["no wikidata id"] == {"count": 2, "examples": [record["wikipedia_title"] for record in records[1:3]]}
    assert report["no image"]["count"] == 4


def test_lists_of_records_records_of_lists_and_parquet_are_read_alike(tmp_path: Path):
    records = [article(0, entity(0, row)) for row in range(5)]
    expected = imported([write(tmp_path / "a.jsonl", records)], tmp_path / "a")
    turned = [{**r, "text": [{"paragraph": text} for text in r["text"]["paragraph"]]} for r in records]
    assert imported([write(tmp_path / "b.jsonl", turned)], tmp_path / "b") == expected
    pq.write_table(pa.Table.from_pylist(turned), tmp_path / "c.parquet")
    assert imported([tmp_path / "c.parquet"], tmp_path / "c") == expected


def test_a_folder_is_its_files_and_gives_the_type(tmp_path: Path):
    records = [article(0, entity(0, row)) for row in range(5)]
    for name, part in (("b", records[3:]), ("a", records[:3])):
        write(tmp_path / "rivers" / f"{name}.jsonl", part)
    pq.write_table(pa.Table.from_pylist([article(0, entity(0, 9))]), tmp_path / "others.parquet")
    rows = imported([tmp_path / "rivers", tmp_path / "others.parquet"], tmp_path)
    assert [row["title"] for row in rows] == [entity(0, row).title for row in (0, 1, 2, 3, 4, 9)]
    assert [row["type"] for row in rows] == [*["rivers"] * 5, "others"]


def test_malformed_articles_are_left_out_up_to_a_limit(tmp_path: Path, small_chunks: None):
    records = [article(0, entity(0, row)) for row in range(9)]
    records[4]["text"] = records[7]["text"] = None
    path = write(tmp_path / "a.jsonl", records)
    with pytest.raises(InputError, match=r"a\.jsonl, line 5: field 'text.paragraph' is missing"):
        imported([path], tmp_path)
    assert [row["id"] for row in imported([path], tmp_path, 2, {"malformed": 2})] == [
        record["wikipedia_id"] for record in records if record["text"]
    ]
    assert json.loads((tmp_path / "articles.json").read_text())["malformed"]["count"] == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_what_stands_twice_is_named_with_both_places(tmp_path: Path, workers: int, small_chunks: None):
    files = wikipedia(tmp_path, KNOWN)
    with gzip.open(files[0], "rt") as lines:
        repeated = json.loads(lines.readlines()[4])
    again = write(tmp_path / "again.jsonl", [article(0, entity(0, 99)), repeated])
    with pytest.raises(InputError) as raised:
        imported([*files, again], tmp_path, workers)
    places = rf"{again}, line 2: field 'wikipedia_id' is 1028, as at {files[0]}, line 5; remove one"
    assert str(raised.value) == places
    assert not (tmp_path / "articles").exists()


def test_what_is_shared_by_thousands_is_looked_up_in_one_pass(tmp_path: Path, monkeypatch, small_chunks: None):
    records = [article(0, entity(0, row)) for row in range(40)]
    for record in records[1::2]:
        record["wikidata_info"] = records[0]["wikidata_info"]
    path, read = write(tmp_path / "a.jsonl", records), []
    chunks = module._chunks
    monkeypatch.setattr(module, "_chunks", lambda files: read.append(1) or chunks(files))
    assert len(imported([path], tmp_path)) == 40
    assert json.loads((tmp_path / "articles.json").read_text())["shared wikidata id"]["count"] == 20
    assert len(read) == 2


def test_articles_whose_hashes_agree_may_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "hash", lambda _: 7, raising=False)
    assert len(imported(wikipedia(tmp_path, KNOWN), tmp_path)) == 30


def test_an_error_of_a_worker_is_one_line_with_its_place(tmp_path: Path, small_chunks: None):
    files = wikipedia(tmp_path, KNOWN)
    broken = tmp_path / "broken.jsonl"
    broken.write_text(json.dumps({**article(0, entity(0, 99)), "text": {"paragraph": ["A\n", "\ud800"]}}))
    with pytest.raises(InputError, match=r"broken\.jsonl, line 1: field 'text.paragraph' has a lone surrogate"):
        imported([*files, broken], tmp_path, 2)


def test_a_broken_off_gzip_file_is_an_error(tmp_path: Path):
    path = wikipedia(tmp_path, KNOWN)[0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"non_humans\.jsonl\.gz: broken after line"):
        imported([path], tmp_path)
    (tmp_path / "none.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"none\.parquet: cannot be read as Parquet"):
        imported([tmp_path / "none.parquet"], tmp_path)


def test_limits_bound_what_is_kept(tmp_path: Path):
    path = kilt_wikipedia(tmp_path / "kilt.json", 30)
    with pytest.raises(InputError, match=r"30 records with no image \(such as .*\), limits allow 29"):
        imported([path], tmp_path, limits={"no image": 29})
