"""A hub of our own on this machine: its protocol for models and datasets, ranges, and connections that break off."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar
from urllib.parse import unquote

COMMITS = {"main": "0123456789abcdef0123456789abcdef01234567", "v2": "89abcdef0123456789abcdef0123456789abcdef"}


class Hub(BaseHTTPRequestHandler):
    """A model `team/model` and a dataset `team/data` of the same files; `asked` keeps each request: `(file, range)`."""

    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, bytes]] = {}
    small: ClassVar[set[str]] = set()  # files that are not in large file storage, so without a SHA-256
    breaks: ClassVar[dict[str, list[int]]] = {}  # file -> after how many bytes each answer breaks off
    damaged: ClassVar[set[str]] = set()
    ranges: ClassVar[bool] = True
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self):
        path = unquote(self.path.split("?")[0])
        described, _, revision = path.partition("/revision/")
        commit = COMMITS.get(revision, revision)
        resolve, _, rest = path.partition("/resolve/")
        name = rest.partition("/")[2]
        if described in ("/api/datasets/team/data", "/api/models/team/model") and commit in COMMITS.values():
            self.describe(described.rpartition("/")[2], commit)
        elif resolve in ("/datasets/team/data", "/team/model", "") and name in self.files:
            self.send(name)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def describe(self, name: str, commit: str) -> None:
        siblings = []
        for name, content in self.files.items():
            entry = {"rfilename": name, "size": len(content)}
            if name not in self.small:
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 9}
            siblings.append(entry)
        told = {"id": f"team/{name}", "sha": commit, "siblings": siblings, "tags": [], "downloads": 0}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send(self, name: str) -> None:
        content = self.files[name]
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        served = content[:-1] + b"X" if name in self.damaged else content
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        self.asked.append((name, wanted))
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and condition in (None, tag) else 0
        start = start if self.ranges else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", tag)
        self.end_headers()
        lengths = self.breaks.get(name, [])
        length = lengths.pop(0) if lengths else len(content)
        self.wfile.write(served[start : start + length])
        if start + length < len(content):
            self.wfile.flush()
            self.connection.close()

    def log_message(self, *arguments):
        """Say nothing."""


def serve(monkeypatch):
    """Start a hub and make `huggingface_hub` ask it: `(handler class, address, function that stops it)`."""
    own = {"files": {}, "small": set(), "breaks": {}, "damaged": set(), "asked": []}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHub", (Hub,), own))
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    for module in ("constants", "hf_api", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.ENDPOINT", address, raising=False)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    for module in ("constants", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return server.RequestHandlerClass, address, server.shutdown
