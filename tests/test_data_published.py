"""ViQuAE as it is published, from a hub of our own to judgements, generated at a small size."""

import json
from pathlib import Path

import published
import pytest
import yaml
from datasets import load_from_disk
from hub_server import serve

from vlret.data import transfer
from vlret.data.answers import preprocess
from vlret.data.archives import unpack_images
from vlret.data.articles import import_articles
from vlret.data.passages import split
from vlret.data.questions import import_questions
from vlret.data.relevance import judge, normalise
from vlret.data.sources import fetch, layout, resolve
from vlret.files import read_jsonl
from vlret.settings import Passages

KNOWN = (30, 20, 10)
SPLITS = {"train": 12, "validation": 8, "test": 9}
TABLE = yaml.safe_load(Path("config/sources.yaml").read_text())


@pytest.fixture
def hub(monkeypatch, tmp_path: Path):
    """Serves ViQuAE's questions, knowledge base and images, which come in three parts."""
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    handler, _, stop = serve(monkeypatch)
    raw = tmp_path / "raw"
    files = [*published.viquae(raw, tuple(SPLITS.values()), KNOWN), *published.wikipedia(raw, KNOWN)]
    names = {record["image"] for file in files[:3] for _, record in read_jsonl(file)}
    names |= {record["image"] for file in files[3:] for _, record in read_jsonl(file) if record["image"]}
    parts = published.image_archive(raw / "parts", sorted(names), parts=3)
    handler.files = {str(file.relative_to(raw)): file.read_bytes() for file in [*files, *parts]}
    yield handler
    stop()


def fetched(name: str, purpose: str, folder: Path) -> dict[str, Path]:
    """Role -> file of a source of config/sources.yaml, whose repository is the hub's."""
    entry = {**TABLE[name], "repository": "team/data", "revision": "main"}
    source = resolve(name, purpose, {name: entry}, "here")
    fetch(source, folder / name)
    return {role: folder / name / place for role, place in layout(source).items()}


def test_viquae_goes_from_the_hub_to_judgements(hub, tmp_path: Path):
    hub.breaks = {"non_humans.jsonl.gz": [1000], "parts/images.tar.gz.partab": [100]}
    questions = fetched("viquae_dataset", "questions", tmp_path)
    wikipedia = fetched("viquae_wikipedia", "wikipedia", tmp_path)
    archives = fetched("viquae_all_images", "images", tmp_path)
    unpack_images([archives["archives"]], TABLE["viquae_all_images"]["bytes_unpacked"], tmp_path / "images")
    data, report = tmp_path / "data", tmp_path / "report.json"
    import_articles(list(wikipedia.values()), {}, data / "articles", report)
    assert list(wikipedia) == ["non_humans", "humans_with_faces", "humans_without_faces"]
    kinds = zip(wikipedia, KNOWN, strict=True)
    assert load_from_disk(str(data / "articles"))["type"] == [kind for kind, count in kinds for _ in range(count)]
    found = {"articles": data / "articles", "images": tmp_path / "images", "link": "provenance", "limits": {}}
    import_questions(**questions, **found, out=data / "questions", report=report)
    split(data / "articles", Passages(), data / "passages")
    normalise(data / "passages", data / "normalised", titles="[SEP]")
    made = (data / name for name in ("questions", "passages", "normalised", "qrels"))
    judge(*made, report, "provenance", data / "articles")
    told = json.loads(report.read_text())
    articles, passages = (load_from_disk(str(data / name)) for name in ("articles", "passages"))
    for name, count in SPLITS.items():
        rows = [record for _, record in read_jsonl(data / "qrels" / f"{name}.jsonl")]
        assert told[name]["questions"] == len(rows) == count
        bare = [row for row, record in enumerate(rows) if not record["provenance_indices"]]
        assert told[name]["no relevant passage"] == {
            "count": len(bare),
            "examples": [rows[b]["id"] for b in bare],
            "rows": bare,
        }
        for record, row in zip(load_from_disk(str(data / "questions"))[name], rows, strict=True):
            assert articles[record["article"]]["wikidata_id"] == record["wikidata_id"]
            assert set(row["original_answer_provenance_indices"]) <= set(row["provenance_indices"])
            for passage in map(passages.__getitem__, row["original_answer_provenance_indices"]):
                assert passage["article"] == record["article"]
                assert preprocess(record["output"]["original_answer"]) in preprocess(passage["text"])
    assert sum(told[name]["relevant passages"] for name in SPLITS) > 20
