"""What is read of others: for each format sound files, how they are damaged, and who reads them.

A reader is given the bytes of one file. It returns where what was read is right, and raises `InputError` where the file
is wrong; anything else is a fault of ours.
"""

import gzip
import io
import json
import math
import random
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
from damages import BYTES, JSON, TEXT, WORDS, Damage, bent, changed
from hostile_images import svg

from vlret.files import InputError, is_file, write_json

Read = Callable[[bytes], object]


class Format(NamedTuple):
    """Sound files, damages, and from an empty folder what reads one file."""

    seeds: Callable[[], Sequence[bytes]]
    damages: Sequence[Damage]
    reader: Callable[[Path], Read]


def lines(*records: object) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def packed(damages: Sequence[Damage]) -> list[Damage]:
    """Of what is packed: damaged inside, and as it lies there."""

    def inside(draw: random.Random, content: bytes) -> bytes:
        try:
            return gzip.compress(draw.choice(damages)(draw, gzip.decompress(content)), 1, mtime=0)
        except Exception:  # it is no gzip any more, or nothing is in it
            return content

    return [*BYTES, *[inside] * len(BYTES)]


# ---- Records ---------------------------------------------------------------------------------------------------------

ARTICLES = [
    {
        "wikipedia_id": str(n),
        "wikipedia_title": title,
        "image": f"{n}.png" if n else None,
        "text": text,
        "wikidata_info": {"wikidata_id": f"Q{n}"},
        "type": "city",
    }
    for n, (title, text) in enumerate(
        [
            ("Rome", {"paragraph": ["Rome\n", "Rome is old.\n"]}),
            ("Zürich", ["Zürich\n", "It is rich.\n"]),
            ("O\u2028slo", [{"paragraph": "Oslo\n"}, {"paragraph": "cold"}]),
        ]
    )
]
QUESTIONS = [
    {
        "id": "q1",
        "input": "Is it old?",
        "original_question": "Is Rome old?",
        "image": "photo.jpg",
        "wikidata_id": "Q0",
        "output": {"original_answer": "old", "answer": ["old", "aged"], "provenance": [{"title": ["Rome"]}]},
    },
    {
        "id": "q2",
        "input": "Is it rich?",
        "image": "photo.jpg",
        "wikidata_id": "Q1",
        "output": [{"answer": "rich", "provenance": [{"title": "Zürich"}]}, {"answer": "yes"}],
    },
    {
        "id": "q3",
        "input": "Is it cold?",
        "image": "photo.jpg",
        "wikidata_id": "Q2",
        "output": {"answer": ["cold"], "provenance": {"title": [["O\u2028slo"], ["Rome"]]}},
    },
]
TRIVIA = [{"question_id": f"q{n}", "question": "Is it?", "answer": {"value": "yes"}} for n in range(3)]
PASSAGES = [{"passage": f"{title} [SEP] text of it", "index": n} for n, title in enumerate(("Rome", "Zürich"))]


def records(name: str, schema: object, make: Callable) -> Callable[[Path], Read]:
    """Reads a file of records; what `make` makes of one must be a row of the table."""

    def reader(folder: Path) -> Read:
        import pyarrow as pa

        from vlret.data.records import RecordError, read_records, taken

        made, path = make(folder), folder / name
        columns = schema() if schema else None

        def read(content: bytes) -> None:
            path.write_bytes(content)
            for record in read_records([path]):
                try:
                    row = taken(made, record)
                except RecordError as error:
                    one_line(error)
                    continue
                if columns is not None:
                    assert pa.RecordBatch.from_pylist([row], schema=columns).to_pylist() == [row]
                json.dumps(row, ensure_ascii=False).encode()

        return read

    return reader


def one_line(error: Exception) -> None:
    """A message that a person can read: one line, which any terminal and log can show."""
    text = str(error)
    assert text.strip(), "an empty message"
    assert len(text.splitlines()) == 1, f"several lines: {text!r}"
    assert all(letter.isprintable() for letter in text), f"what no terminal shows: {text!r}"


def _knowledge_base(folder: Path) -> Path:
    from vlret.data.articles import ARTICLE
    from vlret.data.tables import write_table

    titles = ("Rome", "Zürich", "O\u2028slo")
    rows = [
        {"id": str(n), "title": title, "paragraphs": [], "image": None, "wikidata_id": f"Q{n}", "type": None}
        for n, title in enumerate(titles)
    ]
    write_table(rows, ARTICLE, folder / "articles", empty="")
    return folder / "articles"


def _of_question(folder: Path) -> Callable:
    from vlret.data.questions import Links, _question

    (folder / "images").mkdir()
    (folder / "images" / "photo.jpg").write_bytes(b"photo")
    return partial(_question, find=Links(_knowledge_base(folder), "wikidata"), images=folder / "images")


def _of_article(folder: Path) -> Callable:
    from vlret.data.articles import _article

    return partial(_article, kind=None)


def _of_trivia(folder: Path) -> Callable:
    from vlret.data.triviaqa import _asked

    return _asked


def _of_kilt(folder: Path) -> Callable:
    from vlret.data.triviaqa import _joined

    return partial(_joined, words={f"q{n}": ("Is it?", "yes") for n in range(4)}, trivia=folder / "trivia.jsonl")


def _of_passage(folder: Path) -> Callable:
    from vlret.data.published_passages import _passage

    return partial(_passage, titles=["Rome", "Zürich"], before=0)


def _question_columns() -> object:
    from vlret.data.questions import QUESTION

    return QUESTION.arrow_schema


def _article_columns() -> object:
    from vlret.data.articles import ARTICLE

    return ARTICLE.arrow_schema


def _passage_columns() -> object:
    from vlret.data.passages import PASSAGE

    return PASSAGE.arrow_schema


def _parquet() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = []
    for compression in ("none", "snappy", "zstd"):
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(PASSAGES * 3), sink, compression=compression)
        files.append(sink.getvalue())
    return files


# ---- Runs and judgements ---------------------------------------------------------------------------------------------

RUN = b"".join(b"q%d Q0 %08d %d 1.5e%d tag\n" % (q, p, p + 1, 3 - p) for q in range(2) for p in range(3))
QRELS = b"q0 0 00000000 1\nq0 0 00000001 0\nq1 0 00000002 2\nq2 0 00000000 0\n"


def _runs(suffix: str) -> Callable[[Path], Read]:
    def reader(folder: Path) -> Read:
        from vlret.runs import read_run

        path = folder / f"run.trec{suffix}"

        def read(content: bytes) -> None:
            path.write_bytes(content)
            found = read_run(path)
            plain = gzip.decompress(content) if suffix else content
            expected: dict[str, dict[int, float]] = {}
            for fields in map(str.split, plain.decode("utf-8-sig").split("\n")):
                if fields:
                    question, _, passage, _, score, _ = fields
                    assert int(passage) not in expected.setdefault(question, {})
                    expected[question][int(passage)] = float(score)
            told = {q: dict(zip(r.passages.tolist(), r.scores.tolist(), strict=True)) for q, r in found.items()}
            assert told == expected
            for ranking in found.values():
                assert math.isfinite(ranking.scores.sum() * 0)
                assert (np.diff(ranking.scores) <= 0).all()

        return read

    return reader


def _qrels(folder: Path) -> Read:
    from vlret.runs import read_qrels

    path = folder / "qrels.trec"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        found, expected = read_qrels(path), {}
        for fields in map(str.split, content.decode("utf-8-sig").split("\n")):
            if fields:
                question, _, passage, judgement = fields
                expected.setdefault(question, set()).update([int(passage)] if int(judgement) > 0 else [])
        assert found == expected

    return read


# ---- Archives --------------------------------------------------------------------------------------------------------

MEMBERS = {"images/a.jpg": b"aaa", "images/b c.jpg": b"b" * 2000, "./é.png": b""}
NAMES = (
    "a",
    "",
    ".",
    "..",
    "/",
    "../a",
    "/a",
    "a/../b",
    "a\\b",
    "C:/a",
    "a\0b",
    "a\nb",
    "x" * 300,
    "d/" * 200,
    "\ud800",
)


def _tar(members: Sequence[tarfile.TarInfo], contents: Sequence[bytes], **how) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", errors="surrogatepass", **how) as archive:
        for member, content in zip(members, contents, strict=True):
            archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def _tars() -> list[bytes]:
    members = [tarfile.TarInfo(name) for name in MEMBERS]
    for member, content in zip(members, MEMBERS.values(), strict=True):
        member.size = len(content)
    plain = [_tar(members, list(MEMBERS.values()), format=kind) for kind in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT)]
    return [*plain, *(gzip.compress(each, 1, mtime=0) for each in plain)]


def odd_tar(draw: random.Random, content: bytes) -> bytes:
    """A tar whose headers say odd things of its members, checksums right; packed where it was."""
    kinds = (
        tarfile.REGTYPE,
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.FIFOTYPE,
        tarfile.DIRTYPE,
        b"S",
        b"x",
        b"?",
    )
    members, contents = [], []
    for name, data in MEMBERS.items():
        member = tarfile.TarInfo(draw.choice(NAMES) if draw.random() < 0.3 else name)
        member.type = draw.choice(kinds) if draw.random() < 0.2 else tarfile.REGTYPE
        member.linkname = draw.choice(NAMES)
        member.size = draw.choice((0, 1, 2**33, 8**11 - 1)) if draw.random() < 0.1 else len(data)
        if draw.random() < 0.2:
            member.pax_headers = {draw.choice(("path", "size", "GNU.sparse.map", "mtime", "a")): draw.choice(NAMES)}
        members.append(member)
        contents.append(data + bytes(max(0, min(member.size, 5000) - len(data))))
    try:
        plain = _tar(members, contents, format=draw.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)))
    except (ValueError, OSError):
        return b"?" + content
    return gzip.compress(plain, 1, mtime=0) if content[:2] == b"\x1f\x8b" else plain


def odd_zip(draw: random.Random, content: bytes) -> bytes:
    """A zip of odd members, checksums right."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, data in MEMBERS.items():
            member = zipfile.ZipInfo(name)
            if draw.random() < 0.4:
                member.filename = draw.choice(NAMES).encode("utf-8", "replace").decode()
            if draw.random() < 0.3:
                member.external_attr = draw.choice((0o120777, 0o020666, 0o040755, 0o100644, 2**16 - 1)) << 16
            archive.writestr(member, data, draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)))
    return draw.choice(BYTES)(draw, sink.getvalue()) if draw.random() < 0.3 else sink.getvalue()


def _zips() -> list[bytes]:
    files = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", kind) as archive:
            for name, content in MEMBERS.items():
                archive.writestr(zipfile.ZipInfo(name), content, kind)
        files.append(sink.getvalue())
    return files


def _inside(folder: Path) -> None:
    """Nothing but plain files and folders, and no more of them than may be."""
    total = 0
    for path in folder.rglob("*"):
        assert not path.is_symlink()
        assert path.is_file() or path.is_dir()
        total += path.stat().st_size if path.is_file() else 0
    assert total <= 10_000


def _of_tar(folder: Path) -> Read:
    from vlret.data.archives import unpack_images
    from vlret.files import remove

    path, out = folder / "images.tar", folder / "out" / "images"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        remove(out.parent)
        with redirect_stderr(io.StringIO()):
            unpack_images([path], 10_000, out)
        _inside(out)
        assert {path.name for path in folder.iterdir()} == {"images.tar", "out"}

    return read


def _of_zip(folder: Path) -> Read:
    from vlret.data.downloads import unpack
    from vlret.files import remove

    path, out = folder / "package.whl", folder / "out"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        remove(out)
        unpack(path, 10_000, out)
        _inside(out)
        assert {path.name for path in folder.iterdir()} == {"package.whl", "out"}

    return read


# ---- Images ----------------------------------------------------------------------------------------------------------

SVGS = [
    svg('<circle cx="5" cy="5" r="4" fill="red"/>'),
    svg('<defs><g id="a"><path d="M0 0L9 9H0z"/></g></defs><use xlink:href="#a" transform="rotate(3)"/>'),
    svg('<text x="1" y="8">text</text><image href="data:image/png;base64,AAAA" width="3" height="3"/>'),
    b"\xef\xbb\xbf<?xml version='1.0'?><!DOCTYPE svg>"
    + svg("<style>rect{fill:#0a0}</style><rect width='9' height='7'/>"),
    '<?xml version="1.0" encoding="utf-16"?>'.encode("utf-16") + svg("<g/>").decode().encode("utf-16-le"),
]
DRAWN = 400  # of so many inputs one is drawn, by a process of its own; all are read


def _of_svg(folder: Path) -> Read:
    from vlret.data.images import _without_references, open_image

    path = folder / "image.svg"

    def read(content: bytes) -> None:
        if crc32(content) % DRAWN == 0:
            path.write_bytes(content)
            assert open_image(path, 32).mode == "RGB"
        clean = _without_references(content).decode()
        assert "file:" not in "".join(re.findall(r"href=\"([^\"]*)\"", clean))

    return read


# ---- Features and weights --------------------------------------------------------------------------------------------

IMAGES = {"a.jpg": 0, "b c.jpg": 1, "é.png": 2}
STORE = {
    "backbone": {"family": "timm"},
    "dtype": "float16",
    "shards": ["."],
    "images": IMAGES,
    "unreadable": {"d": "broken"},
}


def _arrays(folder: Path) -> None:
    np.save(folder / "features.npy", np.ones((3, 2, 4), np.float16))
    np.save(folder / "boxes.npy", np.zeros((3, 2, 4), np.float32))
    np.save(folder / "counts.npy", np.full(3, 2, np.int32))


def _open_store(folder: Path) -> None:
    from vlret.features.store import FeatureStore

    store = FeatureStore.open(folder)
    assert store.rows(store.names).tolist() == list(range(len(store)))
    features, boxes = store.read(np.arange(len(store)))
    assert features.shape == (len(store), store.regions, store.dim)
    assert boxes.shape == (len(store), store.regions, 4)
    assert features.dtype in (np.float16, np.float32)
    assert store.counts.shape == (len(store),)
    assert all(isinstance(reason, str) for reason in store.unreadable.values())
    json.dumps(store.description)


def _of_store(folder: Path) -> Read:
    _arrays(folder)
    path = folder / "store.json"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        _open_store(folder)

    return read


def _npy() -> list[bytes]:
    arrays = [np.ones((3, 2, 4), np.float16), np.zeros((3, 2, 4), np.float32), np.full(3, 2, np.int32)]
    files = []
    for array in arrays:
        sink = io.BytesIO()
        np.save(sink, array)
        files.append(sink.getvalue())
    return files


SHAPES = (
    "(3, 2, 4)",
    "(3,)",
    "(2**40, 2, 4)",
    "(10**30,)",
    "(-3, 2, 4)",
    "(3, 0, 4)",
    "()",
    "(True,)",
    "3",
    "(3, 2.0, 4)",
)
KINDS = ("'<f2'", "'<f4'", "'<i4'", "'|O'", "'<U5'", "'>f4'", "'<c16'", "[('a', '<f2')]", "'<M8'", "3", "'|V3'")


def odd_array(draw: random.Random, content: bytes) -> bytes:
    """A header that says something else."""
    shape = draw.choice(SHAPES)
    kind = draw.choice(KINDS)
    header = (
        f"{{'descr': {kind}, 'fortran_order': {draw.choice(('False', 'True', '2'))}, 'shape': {shape}, }}\n".encode()
    )
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content[128:]


def _of_arrays(folder: Path) -> Read:
    write_json(folder / "store.json", STORE)

    def read(content: bytes) -> None:
        _arrays(folder)
        name = ("features.npy", "boxes.npy", "counts.npy")[crc32(content) % 3]
        (folder / name).write_bytes(content)
        _open_store(folder)

    return read


def _tensors() -> dict:
    import torch

    return {"a.weight": torch.ones(3, 4), "a.bias": torch.arange(3.0).half(), "n": torch.tensor(3)}


def _safetensors() -> list[bytes]:
    from safetensors.torch import save

    return [save(_tensors(), metadata={"format": "pt"}), save({})]


def odd_header(draw: random.Random, content: bytes) -> bytes:
    """Of safetensors: the header says something else, its length right."""
    size = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    try:
        header = json.dumps(changed(draw, json.loads(content[8 : 8 + size]))).encode()
    except ValueError:
        return content
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def _pickled() -> list[bytes]:
    import torch

    files = []
    for stored, how in ((_tensors(), {}), (_tensors(), {"_use_new_zipfile_serialization": False}), ([1], {})):
        sink = io.BytesIO()
        torch.save(stored, sink, **how)
        files.append(sink.getvalue())
    return files


def odd_pickle(draw: random.Random, content: bytes) -> bytes:
    """Of torch's zip: another pickle or another tensor inside, checksums right."""
    sink = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(sink, "w") as after:
            chosen = draw.choice(before.namelist()) if draw.random() < 0.5 else "archive/data.pkl"
            for name in before.namelist():
                inside = before.read(name)
                if name == chosen or (chosen == "archive/data.pkl" and name.endswith("data.pkl")):
                    inside = draw.choice(BYTES)(draw, inside) if inside else draw.choice(WORDS)
                after.writestr(name, inside)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError):
        return content
    return sink.getvalue()


def _of_tensors(name: str) -> Callable[[Path], Read]:
    def reader(folder: Path) -> Read:
        import torch

        from vlret.encoders.checkpoints import load_strictly, read_tensors

        path, parameters = folder / name, _tensors()

        def read(content: bytes) -> None:
            path.write_bytes(content)
            found = read_tensors(path)
            assert all(isinstance(name, str) for name in found)
            for tensor in found.values():
                if tensor.numel() < 10**6:
                    assert tensor.clone().shape == tensor.shape
            load_strictly(parameters, found, path)
            assert all(
                torch.equal(parameters[name], found[name].to(parameters[name].dtype)) or found[name].isnan().any()
                for name in found
            )

        return read

    return reader


# ---- JSON ------------------------------------------------------------------------------------------------------------

CHECKPOINT = {
    "name": "minilm_lora_none_avg",
    "model": {"kind": "text", "text": {"architecture": "bert", "separator": "."}},
    "tuning": {"method": "lora", "rank": 2},
    "pooling": "avg",
    "tokens": {"question": 24, "passage": 24},
    "seed": 1,
    "training": {"steps": 3, "tasks": {"a": {"kind": "viquae", "batch_size": 4}}},
    "feature_dim": None,
}


def _of_settings(folder: Path) -> Read:
    from vlret.encoders.checkpoints import read_settings
    from vlret.settings import Checkpoint

    path = folder / "config.json"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        found = read_settings(folder)
        assert Checkpoint.model_validate(json.loads(json.dumps(found.brief()))) == found

    return read


NOTE = {
    "digest": "0123456789abcdef",
    "verb": "lexical search",
    "version": 1,
    "vlret": "1",
    "settings": {"k": 3},
    "inputs": {"index": ["0"]},
}


def _of_note(folder: Path) -> Read:
    from vlret.made import made_by

    path = folder / "made.json"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        found = made_by(folder)
        assert found is None or found == json.loads(content)["digest"]
        assert found is None or isinstance(found, str)

    return read


def _of_entities(folder: Path) -> Read:
    from vlret.data.entities import file_of, find_images

    images, path = folder / "images", folder / "entities.json"
    images.mkdir()
    (images / "a.jpg").write_bytes(b"x")
    (images / "b c.jpg").write_bytes(b"x")

    def read(content: bytes) -> None:
        path.write_bytes(content)
        found = find_images(path, images)
        assert found.found.keys() == json.loads(content).keys()
        assert {file for files in found.found.values() for file in files} <= {"a.jpg", "b c.jpg"}
        for name in found.missing:
            assert not is_file(images / file_of(name).encode("utf-8", "strict").decode())

    return read


ENTITIES = {
    "Q1": ["a.jpg", "http://commons.example/wiki/b%20c.jpg"],
    "Q2": ["https://x.example/é.png?w=3#f", "gone.jpg"],
    "Q3": [],
}


def _of_options(folder: Path) -> Read:
    from vlret.arguments import parse
    from vlret.lexical import search
    from vlret.negatives import mine
    from vlret.signatures import signature_of

    path, verbs = (
        folder / "options.json",
        (
            ("lexical search", search.search, "vlret.lexical.search:search"),
            ("negatives mine", mine.mine, "vlret.negatives.mine:mine"),
        ),
    )
    signatures = [signature_of(place) for *_, place in verbs]

    def read(content: bytes) -> None:
        path.write_bytes(content)
        at = crc32(content) % len(verbs)
        said = io.StringIO()
        try:
            with redirect_stderr(said):
                values, left = parse(*verbs[at][:2], signatures[at], [f"@{path}"])
        except SystemExit as error:
            raise InputError(said.getvalue().removeprefix("vlret: error: ").removesuffix("\n")) from error
        assert values.keys().isdisjoint(left)
        assert {*values, *left} == signatures[at].parameters.keys()

    return read


OPTIONS = [
    {
        "index": "i",
        "questions": "q",
        "split": "test",
        "k": 3,
        "tag": "t",
        "out": "o",
        "settings": {"b": 0.5, "k1": 1.0},
    },
    {"miner": "bm25", "qrels": "q", "passages": "p", "run": "r", "depth": 3, "out": "o", "seed": 3},
]


# ---- YAML ------------------------------------------------------------------------------------------------------------

MODELS = b"""models:
  bm25: {kind: lexical}
  minilm: {kind: text, text: {architecture: bert, separator: ". "}}
"""
CONFIG = b"""dataset: own
datasets:
  own: {source: {sample: {split: &s {train: 0.6, validation: 0.15, test: 0.25}}}, passages: {unit: sentence}}
grid:
  product: [{model: bm25, tuning: zs, prefix: none, pooling: none}]
  include: [minilm_full_none_avg]
fusions:
  both: {runs: [bm25_zs_none_none, minilm_full_none_avg], method: rrf, constant: 60}
training: {defaults: {steps: 6, batch_size: 8, warmup_steps: 1, negatives: {bm25: 1.0}}}
"""
DOWNLOADS = b"""own:
  version: "1.0"
  file: own-1.0.whl
  bytes: 10
  bytes_unpacked: 100
  sha256: abc
"""
SOURCES = b"""own:
  holds: questions  # of ours
  repository: own/dataset
  revision: main
  files: {train: train.jsonl, validation: [a.jsonl, b.jsonl], test: "test-*.parquet"}
  sums: {train.jsonl: {bytes: 3, sha256: abc}}
images: {url: "https://own.example/images.tar", files: {archives: images.tar}, bytes_unpacked: 100}
"""
BOMB = b"a: &a {b: 1}\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n" + b"".join(
    b"%c: &%c [%s]\n" % (n, n, b", ".join([b"*%c" % (n - 1)] * 10)) for n in range(ord("c"), ord("m"))
)
YAMLS = (BOMB, b"a: &a [*a]\n", b"a: &a {b: *a}\n", b"<<: {a: 1}\na: 2\n", b"? [1, 2]\n: 3\n", b"1: 2\n")


def yaml_from_json(draw: random.Random, content: bytes) -> bytes:
    """Other values in what a YAML file says."""
    import yaml

    if b"*" in content:
        return bent(draw, content)
    try:
        return json.dumps(changed(draw, yaml.safe_load(content))).encode()
    except Exception:  # it is no YAML any more, or says what JSON cannot
        return bent(draw, content)


YAML = (*TEXT, *[yaml_from_json] * 9)


def _of_config(folder: Path) -> Read:
    from vlret.config import load_config
    from vlret.settings import Config

    (folder / "config").mkdir()
    (folder / "config" / "models.yaml").write_bytes(MODELS)
    path = folder / "config.yaml"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        config = load_config([path], folder)
        assert Config.model_validate(config.model_dump(mode="json")) == config

    return read


def _of_downloads(folder: Path) -> Read:
    from vlret.data.downloads import FIELDS, entry_of
    from vlret.yamls import read as read_yaml

    path = folder / "downloads.yaml"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        entry = entry_of("own", read_yaml(path), path)
        assert all(isinstance(entry[field], kind) for field, kind in FIELDS.items())

    return read


def _of_sources(folder: Path) -> Read:
    from vlret.data.sources import layout, resolve
    from vlret.yamls import read as read_yaml

    path = folder / "sources.yaml"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        table = read_yaml(path)
        for name, purpose in (("own", "questions"), ("images", "images")):
            source = resolve(name, purpose, table, "datasets.own.source")
            json.dumps(source)
            assert layout(source).keys() == source["files"].keys()

    return read


FORMATS = {
    "questions": Format(lambda: [lines(*QUESTIONS)], JSON, records("q.jsonl", _question_columns, _of_question)),
    "questions-gz": Format(
        lambda: [gzip.compress(lines(*QUESTIONS), 1, mtime=0)],
        packed(JSON),
        records("q.jsonl.gz", _question_columns, _of_question),
    ),
    "articles": Format(lambda: [lines(*ARTICLES)], JSON, records("a.jsonl", _article_columns, _of_article)),
    "trivia": Format(lambda: [lines(*TRIVIA)], JSON, records("t.jsonl", None, _of_trivia)),
    "kilt": Format(lambda: [lines(*QUESTIONS)], JSON, records("k.jsonl", None, _of_kilt)),
    "passages": Format(lambda: [lines(*PASSAGES)], JSON, records("p.jsonl", _passage_columns, _of_passage)),
    "parquet": Format(_parquet, BYTES, records("p.parquet", _passage_columns, _of_passage)),
    "run": Format(lambda: [RUN], TEXT, _runs("")),
    "run-gz": Format(lambda: [gzip.compress(RUN, 1, mtime=0)], packed(TEXT), _runs(".gz")),
    "qrels": Format(lambda: [QRELS], TEXT, _qrels),
    "tar": Format(_tars, [*packed(BYTES), *[odd_tar] * 12], _of_tar),
    "zip": Format(_zips, [*BYTES, *[odd_zip] * 9], _of_zip),
    "svg": Format(lambda: SVGS, TEXT, _of_svg),
    "store": Format(lambda: [lines(STORE)], JSON, _of_store),
    "arrays": Format(_npy, [*BYTES, *[odd_array] * 9], _of_arrays),
    "safetensors": Format(_safetensors, [*BYTES, *[odd_header] * 9], _of_tensors("model.safetensors")),
    "pickled": Format(_pickled, [*BYTES, *[odd_pickle] * 18], _of_tensors("model.pth")),
    "checkpoint": Format(lambda: [lines(CHECKPOINT)], JSON, _of_settings),
    "note": Format(lambda: [lines(NOTE)], JSON, _of_note),
    "entities": Format(lambda: [lines(ENTITIES)], JSON, _of_entities),
    "options": Format(lambda: [lines(each) for each in OPTIONS], JSON, _of_options),
    "config": Format(lambda: [CONFIG, CONFIG, CONFIG, CONFIG, *YAMLS], YAML, _of_config),
    "downloads": Format(lambda: [DOWNLOADS, DOWNLOADS, DOWNLOADS, *YAMLS], YAML, _of_downloads),
    "sources": Format(lambda: [SOURCES, SOURCES, SOURCES, *YAMLS], YAML, _of_sources),
}
