"""The disk space of a plan: vectors by the number of passages, the peak by what is deleted in between."""

from pathlib import Path

import pytest
from datasets import Dataset
from toy import WORDS

from vlret.config import MODELS, check, read
from vlret.layout import Layout
from vlret.planned import Plan, Planned
from vlret.storage import Storage, shown, size_of, width_of

ROOT = Path(__file__).parents[1]
ROWS = ("vlminilm_zs_none_avg", "vlminilm_lora_none_avg", "vlminilm_full_none_avg")
PASSAGES = 1000


def job(layout, rule, inputs=(), **wildcards):
    outputs = [path.format(**wildcards) for path in layout.outputs(rule).values()]
    return Planned(rule, wildcards, list(inputs), outputs, "", {})


def plan_of(place, **embedding):
    """The embedding and search of three rows."""
    parts = [(MODELS, read(ROOT / MODELS)), ("config.yaml", read(ROOT / "config" / "config.yaml"))]
    config = check([*parts, ("own.yaml", {"embedding": embedding})])
    layout = Layout(config, ROOT, lambda path: place / path)
    jobs = []
    for row in ROWS:
        shards = [
            job(layout, "embed", experiment=row, scatteritem=path.rpartition("/")[2]) for path in layout.embeddings(row)
        ]
        read_ = [path for shard in shards for path in shard.outputs]
        jobs += [*shards, job(layout, "search", read_, experiment=row)]
    return Plan(layout, jobs)


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Dataset.from_dict({"text": WORDS * (PASSAGES // len(WORDS))}).save_to_disk(
        str(tmp_path / "results/sample/data/passages")
    )
    report = tmp_path / "results/sample/runs/bm25.trec"
    report.parent.mkdir(parents=True)
    report.write_text("x" * 100)
    report.with_suffix(".json").write_text("y" * 50)
    return tmp_path


@pytest.mark.parametrize(("dtype", "each"), [("float16", 768), ("float32", 1536), ("int8", 388)])
def test_vectors_are_counted_from_the_passages(made, dtype, each):
    storage = Storage(plan_of(made, dtype=dtype))
    assert storage.sizes == [each * PASSAGES, 150] * 3
    assert storage.peak(1) == (3 * (each * PASSAGES + 150),) * 2


def test_temporary_vectors_count_until_they_were_searched(made):
    vectors = 768 * PASSAGES
    most, stay = Storage(plan_of(made, keep=False, shards=2)).peak(1)
    assert stay == 3 * 150
    assert vectors + 150 <= most < 2 * vectors


def test_what_is_not_made_yet_is_unknown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set(Storage(plan_of(tmp_path)).sizes) == {None}


def test_widths_of_vectors(tmp_path):
    config = check([(MODELS, read(ROOT / MODELS)), ("viquae.yaml", read(ROOT / "config" / "viquae.yaml"))])
    layout = Layout(config, ROOT)
    searched = [experiment for experiment in layout.experiments.values() if experiment.model != "bm25"]
    widths = {experiment.name: width_of(layout, experiment) for experiment in searched}
    assert widths["vlt5_adapter_none_avg"] == 768
    assert None not in widths.values()


def test_sizes_are_read_and_shown(tmp_path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    (tmp_path / "folder" / "a").write_bytes(b"12345")
    (tmp_path / "folder" / "inside" / "b").write_bytes(b"123")
    assert (size_of(tmp_path / "folder"), size_of(tmp_path / "folder" / "a")) == (8, 5)
    assert [shown(size) for size in (5, 2048, 200 * 2**20, 1.5 * 2**30, 3 * 2**40)] == [
        "5 B",
        "2.0 KiB",
        "200 MiB",
        "1.5 GiB",
        "3.0 TiB",
    ]
