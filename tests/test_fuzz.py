"""Whatever a file of others holds: it is read rightly, or refused in one line, in little time and little memory.

Images have a test of their own, `test_features_hostile`.
"""

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzz_worker import expression, fault
from readers import BOMB, FORMATS, STORE, lines, svg

HERE = Path(__file__).parent
MEMORY = Path("/dev/shm")  # where files need no disk


class Worker:
    """A process that reads damaged files; another takes its place when one ends it."""

    def __init__(self, folder: Path):
        self.folder, self.process = folder, None

    def faults(self, name: str, count: int, seed: int = 0) -> list[str]:
        """What goes wrong with so many inputs of a format, each with a case to be pasted into `FOUND`."""
        if self.process is None:
            self._start()
        self.process.stdin.write(json.dumps([name, count, seed]) + "\n")
        self.process.stdin.flush()
        found = []
        for line in self.process.stdout:
            told = json.loads(line)
            if "done" in told:
                return found
            found.append(f"{told['fault']}\n    ({name!r}, {told['input']}),\n")
        code, log = self.process.wait(), (self.folder / "log").read_text(errors="replace")[-3000:]
        self.process = None
        assert (self.folder / "input").is_file(), log
        content = expression((self.folder / "input").read_bytes())
        return [*found, f"{log}\nended the process with code {code}\n    ({name!r}, {content}),\n"]

    def _start(self) -> None:
        command = [sys.executable, str(HERE / "fuzz_worker.py"), str(self.folder)]
        with open(self.folder / "log", "wb") as log:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            self.process = subprocess.Popen(command, text=True, **pipes)

    def dismiss(self) -> None:
        """Let the process end."""
        if self.process:
            self.process.stdin.close()
            self.process.wait()


@pytest.fixture(scope="module")
def worker():
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        worker = Worker(Path(folder))
        yield worker
        worker.dismiss()


COUNTS = [200, pytest.param(2_000, marks=pytest.mark.slow), pytest.param(10_000, marks=pytest.mark.whole)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_read_rightly_or_refused_in_one_line(worker, name, count):
    found = worker.faults(name, count, seed=count)
    assert not found, "\n".join(found)


def zipped(name: bytes, content: bytes, change: tuple[bytes, bytes]) -> bytes:
    """A zip of one file, packed with LZMA, in which some bytes are others."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(zipfile.ZipInfo(name.decode()), content, zipfile.ZIP_LZMA)
    assert change[0] in sink.getvalue()
    return sink.getvalue().replace(*change)


def pickled(stored: object) -> bytes:
    sink = io.BytesIO()
    torch.save(stored, sink)
    return sink.getvalue()


def store(**changes: object) -> bytes:
    return lines({**STORE, **changes})


def array(kind: str, *shape: int) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.ones(shape, kind))
    return sink.getvalue()


QUESTION = {"id": "q", "input": "?", "image": "photo.jpg", "wikidata_id": "a\nb", "output": {"answer": ["x"]}}

# What has been found: a file each that was read wrongly, or refused in another way than by a line.
FOUND = [
    ("questions", lines(QUESTION)),
    ("passages", lines({"passage": "Zürich [SEP] text", "index": True})),
    ("zip", zipped("é".encode(), b"a", ("é".encode(), b"\xc3\x83\xff"[:2][::-1]))),
    ("zip", zipped(b"a", bytes(99), (b"\x5d\x00\x00\x80\x00\x00", b"\xff\xff\xff\xff\xff\xff"))),
    ("svg", b"<?xml version='1.0' encoding='utf-99'?>" + svg("")),
    ("pickled", pickled({1: torch.ones(1)})),
    ("pickled", b"\x80\x02."),
    ("note", b"[]"),
    ("note", b'{"digest": ["a"]}'),
    ("store", b"[]"),
    ("store", store(shards=[{}])),
    ("store", store(images={"a": 0, "b": "\n", "c": 2})),
    ("store", store(images={"a": 1, "b": 0, "c": 2})),
    ("store", store(images=["a", "b", "c"])),
    ("store", lines({key: value for key, value in STORE.items() if key != "unreadable"})),
    ("store", store(unreadable={"d": None})),
    *(("arrays", array("float64", 3, 2, size)) for size in (1, 2, 3, 5)),
    *(("arrays", array("int32", *[3] * size)) for size in range(5)),
    *(("arrays", b"\x93NUMPY\x01\x00\x76\x00\x01{'descr'" + bytes(size)) for size in range(118, 126)),
    ("config", b"? [1, 2]\n: 3\n"),
    ("config", b"1: 2\n"),
    ("config", b"<<: {0x1F: 1}\na: 2\n"),
    ("config", b"[" * 100_000),
    ("config", b"a: 2001-99-99\n"),
    ("config", b"a: " + b"9" * 5000),
    ("config", BOMB + b"dataset: *l\n"),
    ("downloads", b"\xff\xfe\x00"),
    ("downloads", b"own: 1\n"),
    ("downloads", b"own: {version: '1', file: a, bytes: true, bytes_unpacked: 1, sha256: a}\n"),
    ("downloads", BOMB),
    ("sources", b"own: 1\n"),
    ("sources", b"own: {url: 2001-01-01, files: {train: a, validation: b, test: c}}\n"),
    ("sources", b"own: {url: a, files: {train: a, validation: b, test: c}, sums: {a: 1}}\n"),
]


@pytest.mark.parametrize(("name", "content"), FOUND, ids=[f"{name}-{n}" for n, (name, _) in enumerate(FOUND)])
def test_what_was_found_once_is_refused_in_one_line(tmp_path, name, content):
    assert not fault(FORMATS[name].reader(tmp_path), content)
