"""Fetching a model repository, from a hub of our own that speaks the real one's protocol."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest

from vlret.data import hub
from vlret.files import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SAFE = {"config.json": b'{"model_type": "t5"}', "spiece.model": b"pieces", "model.safetensors": b"weights" * 100}
OTHERS = {"pytorch_model.bin": b"pickle", "tf_model.h5": b"tensorflow", "onnx/model.onnx": b"onnx"}


class Hub(BaseHTTPRequestHandler):
    """Answers `model_info` and file requests of huggingface_hub for one repository."""

    files: ClassVar[dict[str, bytes]] = {}
    damaged: str | None = None

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.startswith("/api/models/team/model/revision/") and path.rsplit("/", 1)[1] in ("main", COMMIT):
            siblings = []
            for name, content in self.files.items():
                entry = {"rfilename": name, "size": len(content)}
                if name.endswith((".safetensors", ".bin")):
                    digest = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 100}
                siblings.append(entry)
            described = {"id": "team/model", "sha": COMMIT, "siblings": siblings, "tags": [], "downloads": 0}
            self.answer(json.dumps(described).encode(), "application/json")
        elif path.startswith(f"/team/model/resolve/{COMMIT}/"):
            name = path.removeprefix(f"/team/model/resolve/{COMMIT}/")
            content = self.files[name]
            served = content[:-1] + b"X" if name == self.damaged else content
            self.answer(served, "application/octet-stream", {"X-Repo-Commit": COMMIT, "ETag": f'"{len(content)}"'})
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def answer(self, content, kind, headers=()):
        self.send_response(200)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def served(monkeypatch):
    """Serve some files as the repository `team/model`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHub", (Hub,), {}))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    for module in ("constants", "hf_api", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.ENDPOINT", address, raising=False)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server.RequestHandlerClass
    server.shutdown()


def names(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_what_an_encoder_needs_is_fetched_and_no_more(served, tmp_path, capsys):
    served.files = {**SAFE, **OTHERS}
    hub.fetch_repository("team/model", "main", tmp_path / "out")
    assert names(tmp_path / "out") == set(SAFE)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == SAFE["model.safetensors"]
    assert COMMIT in capsys.readouterr().err


def test_pickled_weights_are_fetched_where_there_are_no_others(served, tmp_path):
    served.files = {**{name: content for name, content in SAFE.items() if name != "model.safetensors"}, **OTHERS}
    hub.fetch_repository("team/model", COMMIT, tmp_path / "out")
    assert "pytorch_model.bin" in names(tmp_path / "out")


def test_a_damaged_file_is_an_error_and_leaves_nothing(served, tmp_path):
    served.files, served.damaged = SAFE, "model.safetensors"
    with pytest.raises(InputError, match=r"model.safetensors has another checksum"):
        hub.fetch_repository("team/model", "main", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("repository", "revision"), [("team/other", "main"), ("team/model", "branch")])
def test_an_unknown_repository_is_one_line(served, tmp_path, repository, revision):
    served.files = SAFE
    with pytest.raises(InputError, match=f"{repository} at {revision}: cannot be fetched") as raised:
        hub.fetch_repository(repository, revision, tmp_path / "out")
    assert "\n" not in str(raised.value)
