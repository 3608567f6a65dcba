"""Shards of vectors: resumed with the same bytes, independent of their number, stored with a known loss."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import faiss
import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from shards import write_shard
from toy import Toy

from vlret.cli import main
from vlret.features.store import FeatureWriter
from vlret.files import InputError, read_json
from vlret.retrieval import encode as encoding
from vlret.retrieval.embed import embed_passages, embed_questions
from vlret.retrieval.search import stored_recall
from vlret.retrieval.vectors import Vectors, VectorWriter, sampled
from vlret.training.train import train


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return Toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def checkpoint(toy):
    path = toy.folder / "zero-shot"
    train(settings=toy.settings("zs"), **toy.training, out=path)
    return path


@pytest.fixture
def searched(toy, checkpoint):
    read = {name: toy.corpus[name] for name in ("weights", "passages", "articles", "article_features")}
    return {"checkpoint": checkpoint, **read, "batch_size": 4, "threads": 1}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "made.json"}


@pytest.mark.parametrize("of", [2, 3, 20])
def test_vectors_do_not_depend_on_the_number_of_shards(searched, tmp_path, monkeypatch, of):
    monkeypatch.setattr(encoding, "WINDOW", 9)
    embed_passages(**searched, out=tmp_path / "whole")
    shards = [f"{number}-of-{of}" for number in range(1, of + 1)]
    for shard in shards:
        embed_passages(**searched, shard=shard, out=tmp_path / shard)
    whole, parts = Vectors.open([tmp_path / "whole"]), Vectors.open([tmp_path / shard for shard in shards])
    assert whole.dtype == np.float16
    np.testing.assert_array_equal(parts.between(0, 10**6), whole.between(0, 10**6))
    np.testing.assert_array_equal(parts.between(7, 30), whole.between(7, 30))
    rows = np.random.default_rng(0).permutation(len(whole))
    np.testing.assert_array_equal(parts.rows(rows), whole.between(0, 10**6)[rows])
    np.testing.assert_array_equal(sampled([tmp_path / shard for shard in shards])[0], np.arange(len(whole)))


ROOT = Path(__file__).parents[1]
KILLED = """
import sys
from pathlib import Path
from vlret.cli import main
from vlret.retrieval import encode
from vlret.retrieval.vectors import VectorWriter
encode.WINDOW, kept = 4, VectorWriter.add
def add(self, *window):
    kept(self, *window)
    Path(sys.argv[1]).write_text(str(self.units))
    import time; time.sleep(0.3)
VectorWriter.add = add
sys.exit(main(sys.argv[2:]))
"""


def test_a_killed_job_resumes_behind_its_last_window_with_the_same_bytes(searched, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(encoding, "WINDOW", 4)
    embed_passages(**searched, out=tmp_path / "undisturbed")
    words = ["retrieval", "embed", f"--out={tmp_path / 'out'}"]
    for name, value in searched.items():
        given = f"text={value['text']}" if name == "weights" else value
        words.append(f"--{name.replace('_', '-')}={given}")
    script, told = tmp_path / "killed.py", tmp_path / "units"
    script.write_text(KILLED)
    process = subprocess.Popen([sys.executable, script, told, *words], env={**os.environ, "PYTHONPATH": str(ROOT)})
    while process.poll() is None and not (told.exists() and told.read_text() >= "8"):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    embed_passages(**searched, out=tmp_path / "out")
    assert "resuming after 8 of 42 passages" in capsys.readouterr().err
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")
    assert not list(tmp_path.glob("*.unfinished"))


RESUMED = """
import sys, time
from pathlib import Path
from vlret.cli import main
from vlret.retrieval import index, search, units
from vlret.snapshot import Snapshot
search.SECONDS = index.SECONDS = 0
units.CHUNK, kept, saved = 8, Snapshot.save, []
def save(self, write):
    kept(self, write)
    saved.append(1)
    if len(saved) == 4:
        Path(sys.argv[1]).touch()
        time.sleep(60)
Snapshot.save = save
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("job", ["search", "index IVF4,Flat", "index HNSW8", "index SQ8"])
def test_a_killed_search_or_index_goes_on_with_the_same_bytes(tmp_path, monkeypatch, capsys, job):
    rng = np.random.default_rng(0)
    shard = write_shard(tmp_path / "shard", rng.standard_normal((60, 8)).astype(np.float32))
    np.save(tmp_path / "questions.npy", rng.standard_normal((5, 8)).astype(np.float32))
    splits = {"train": ["a"], "validation": ["b"], "test": ["c", "d", "e"]}
    table = DatasetDict({split: Dataset.from_dict({"id": identifiers}) for split, identifiers in splits.items()})
    table.save_to_disk(str(tmp_path / "questions"))
    Dataset.from_dict({"article": list(range(60))}).save_to_disk(str(tmp_path / "passages"))
    verb, _, factory = job.partition(" ")
    words = ["retrieval", verb, f"--embeddings={shard}", "--seed=0"]
    words += [f"--factory={factory}"] if factory else ["--k=7", "--tag=t", f"--report={tmp_path / 'report.json'}"]
    if not factory:
        words += [f"--{name.replace('_', '-')}={tmp_path / name}" for name in ("questions", "passages")]
        words.append(f"--questions-embeddings={tmp_path / 'questions.npy'}")
    monkeypatch.setattr("vlret.retrieval.units.CHUNK", 8)
    main([*words, f"--out={tmp_path / 'undisturbed'}"])
    (tmp_path / "killed.py").write_text(RESUMED)
    command = [sys.executable, tmp_path / "killed.py", tmp_path / "waits", *words, f"--out={tmp_path / 'out'}"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    while process.poll() is None and not (tmp_path / "waits").exists():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    main([*words, f"--out={tmp_path / 'out'}"])
    assert "resuming with row" in capsys.readouterr().err
    if "HNSW" in job:  # whose graph depends on when it was stopped
        assert faiss.read_index(str(tmp_path / "out")).ntotal == 60
    else:
        assert (tmp_path / "out").read_bytes() == (tmp_path / "undisturbed").read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))


def test_an_unfinished_shard_of_another_checkpoint_is_not_continued(searched, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(encoding, "WINDOW", 4)
    taken = VectorWriter.add

    def stopped(self, *window):
        taken(self, *window)
        raise KeyboardInterrupt

    monkeypatch.setattr(VectorWriter, "add", stopped)
    with pytest.raises(KeyboardInterrupt):
        embed_passages(**searched, out=tmp_path / "out")
    monkeypatch.setattr(VectorWriter, "add", taken)
    file = searched["checkpoint"] / "model.safetensors"
    other = bytearray(file.read_bytes())
    other[-1] ^= 1
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "config.json").write_bytes((searched["checkpoint"] / "config.json").read_bytes())
    (changed / "model.safetensors").write_bytes(other)
    embed_passages(**{**searched, "checkpoint": changed}, out=tmp_path / "out")
    said = capsys.readouterr().err
    assert "out.unfinished: removed, since it" in said
    assert "checkpoint" in said
    assert "resuming" not in said


def test_a_torn_window_is_encoded_again(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    write_shard(tmp_path / "whole", vectors, dtype="int8")
    writer = VectorWriter(tmp_path / "torn", "int8", every=1)
    writer.add(vectors[:10], cut=3)
    with open(tmp_path / "torn" / "journal.jsonl", "ab") as stream:
        stream.write(b'{"units": 10, "cut"')
    (tmp_path / "torn" / "vectors.npy").open("ab").write(b"123")
    writer = VectorWriter(tmp_path / "torn", "int8", every=1)
    assert (writer.units, writer.cut) == (10, 3)
    writer.add(vectors[10:], cut=0)
    writer.finish({"unit": "passage", "first": 0, "precision": "fp32"})
    for name in ("vectors.npy", "scales.npy", "sample.npy"):
        assert (tmp_path / "torn" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(("dtype", "most"), [("float32", 0), ("float16", 5e-4), ("int8", 5e-3)])
def test_what_storing_costs_is_measured(tmp_path, dtype, most):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((500, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[3, 77]] = np.nan
    shard = write_shard(tmp_path / "shard", vectors, dtype=dtype)
    stored = Vectors.open([shard])
    read = stored.between(0, 500)
    assert np.isnan(read[[3, 77]]).all()
    assert np.nanmax(np.abs(read - vectors)) <= most
    measured = stored_recall([shard], stored, vectors[:50], 20)
    assert (measured["dtype"], measured["units"]) == (dtype, 500)
    assert measured["recall@20"] == 1.0 if dtype == "float32" else 0.9 < measured["recall@20"] <= 1.0
    assert (shard / "vectors.npy").stat().st_size == 128 + 500 * 64 * np.dtype(dtype).itemsize


def test_vectors_that_cannot_be_stored_are_refused(tmp_path):
    writer = VectorWriter(tmp_path, "float16", every=1)
    with pytest.raises(InputError, match=r"embedding\.dtype: the vector of unit 1 is not finite in float16"):
        writer.add(np.float32([[1, 2], [1e6, 0]]), cut=0)


def test_shards_that_do_not_follow_one_another_are_refused(tmp_path):
    vectors = np.ones((20, 4), np.float32)
    shards = [write_shard(tmp_path / str(first), vectors, first=first) for first in (0, 30)]
    with pytest.raises(InputError, match="30: does not follow on the shards before it"):
        Vectors.open(shards)
    with pytest.raises(InputError, match="no shard holds a vector"):
        Vectors.open([write_shard(tmp_path / "empty", vectors[:0])])


def test_bf16_is_noted(searched, tmp_path):
    embed_passages(**searched, precision="bf16", out=tmp_path / "out")
    assert read_json(tmp_path / "out" / "embeddings.json")["precision"] == "bf16"
    with pytest.raises(InputError, match=r"embedding\.precision: fp16 needs a GPU; use bf16 or fp32"):
        embed_passages(**searched, precision="fp16", out=tmp_path / "none")


def test_features_of_another_width_are_refused(toy, searched, tmp_path):
    wide = FeatureWriter(tmp_path / "wide", 4, 7)
    wide.add(["a0.png"], np.zeros((1, 4, 7)), np.zeros((1, 4, 4)))
    wide.finish({"backbone": "toy"})
    message = r"wide: features of width 7, trained on 6$"
    with pytest.raises(InputError, match=message):
        embed_passages(**{**searched, "article_features": tmp_path / "wide"}, out=tmp_path / "out")
    asked = {name: searched[name] for name in ("checkpoint", "weights", "batch_size", "threads")}
    asked |= {"questions": toy.questions, "question_features": tmp_path / "wide"}
    with pytest.raises(InputError, match=message):
        embed_questions(**asked, out=tmp_path / "questions.npy")
