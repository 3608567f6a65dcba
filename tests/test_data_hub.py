"""Fetching a model's weights, from a hub of our own that speaks the real one's protocol."""

import hashlib

import pytest
from hub_server import COMMITS, serve

from vlret.data import transfer
from vlret.data.hub import fetch_repository
from vlret.files import InputError, read_json

SAFE = {"config.json": b'{"model_type": "t5"}', "spiece.model": b"pieces", "model.safetensors": b"weights" * 100}
OTHERS = {"pytorch_model.bin": b"pickle", "tf_model.h5": b"tensorflow", "onnx/model.onnx": b"onnx"}


@pytest.fixture
def served(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    handler, _, stop = serve(monkeypatch)
    handler.files, handler.small = {**SAFE, **OTHERS}, {"config.json"}
    yield handler
    stop()


def names(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"source.json"}


def test_what_an_encoder_needs_is_fetched_and_no_more(served, tmp_path):
    served.files["2_Dense/model.safetensors"] = b"projection"
    fetch_repository("team/model", "main", tmp_path / "main")
    assert names(tmp_path / "main") == {*SAFE, "2_Dense/model.safetensors"}
    assert (tmp_path / "main" / "model.safetensors").read_bytes() == SAFE["model.safetensors"]


def test_the_commit_of_the_first_time_and_its_sums_hold(served, tmp_path):
    fetch_repository("team/model", "main", tmp_path / "main")
    noted = read_json(tmp_path / "main.json")
    assert noted == read_json(tmp_path / "main" / "source.json")
    assert (noted["repository"], noted["revision"], noted["commit"]) == ("team/model", "main", COMMITS["main"])
    assert noted["files"]["spiece.model"] == {"bytes": 6, "sha256": hashlib.sha256(b"pieces").hexdigest()}
    served.files["config.json"] = b'{"model_type": "t6"}'
    with pytest.raises(InputError, match=r"config\.json.*: its SHA-256 is .*, expected"):
        fetch_repository("team/model", "main", tmp_path / "main")
    assert (tmp_path / "main" / "config.json").read_bytes() == SAFE["config.json"]


def test_weights_that_break_off_go_on_at_their_byte(served, tmp_path):
    served.breaks = {"model.safetensors": [300] + [0] * 9}
    with pytest.raises(InputError, match=r"model\.safetensors: cannot be fetched: .*; run this again"):
        fetch_repository("team/model", "main", tmp_path / "main")
    assert not (tmp_path / "main").exists()
    served.breaks, served.asked = {}, []
    fetch_repository("team/model", "main", tmp_path / "main")
    assert (tmp_path / "main" / "model.safetensors").read_bytes() == SAFE["model.safetensors"]
    assert served.asked[0] == ("model.safetensors", "bytes=300-")


def test_pickled_weights_are_fetched_where_there_are_no_others(served, tmp_path):
    del served.files["model.safetensors"]
    fetch_repository("team/model", COMMITS["v2"], tmp_path / "out")
    assert "pytorch_model.bin" in names(tmp_path / "out")


def test_a_damaged_file_is_an_error_and_leaves_nothing(served, tmp_path):
    served.damaged = {"model.safetensors"}
    with pytest.raises(InputError, match=r"model\.safetensors.*: its SHA-256 is .*, expected"):
        fetch_repository("team/model", "main", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_would_lie_elsewhere_is_refused(served, tmp_path):
    served.files["a/../../../x.json"] = b"{}"
    with pytest.raises(InputError, match=r"team/model: file a/\.\./\.\./\.\./x\.json is outside the folder"):
        fetch_repository("team/model", "main", tmp_path / "hub" / "out")
    assert served.asked == []


@pytest.mark.parametrize(("repository", "revision"), [("team/other", "main"), ("team/model", "branch")])
def test_an_unknown_repository_is_one_line(served, tmp_path, repository, revision):
    with pytest.raises(InputError, match=f"{repository} at {revision}: cannot be fetched") as raised:
        fetch_repository(repository, revision, tmp_path / "out")
    assert "\n" not in str(raised.value)
