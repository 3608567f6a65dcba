import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hub_server import COMMITS, serve

from vlret.data import transfer
from vlret.data.sources import OWN, fetch, layout, resolve
from vlret.files import InputError

TABLE = Path("config/sources.yaml")
SPLITS = {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"}
FILES = {"train.jsonl": b"train " * 50_000, "validation.jsonl": b"validation", "test.jsonl": b"test", "README.md": b"?"}
KNOWN = {
    "questions": {"repository": "team/data", "revision": "main", "files": SPLITS},
    "parts": {"repository": "team/data", "files": {"archives": "parts/*"}, "bytes_unpacked": 9},
}


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    handler, handler.address, stop = serve(monkeypatch)
    handler.files = dict(FILES)
    yield handler
    stop()


def source(value="questions", purpose="questions") -> dict:
    return resolve(value, purpose, KNOWN, "config, data.source")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_source_is_fetched_by_role_and_what_came_is_noted(hub, tmp_path: Path):
    out = tmp_path / "questions"
    fetch(source(), out)
    assert {path.name for path in out.iterdir()} == {*SPLITS.values(), "source.json"}
    assert (out / "train.jsonl").read_bytes() == FILES["train.jsonl"]
    noted = json.loads((tmp_path / "questions.json").read_text())
    assert noted == json.loads((out / "source.json").read_text())
    assert noted["commit"] == COMMITS["main"]
    assert noted["files"]["test.jsonl"] == {"bytes": 4, "sha256": digest(b"test")}
    assert not list(tmp_path.glob(".*unfinished"))


def test_a_file_that_breaks_off_goes_on_at_its_byte(hub, tmp_path: Path):
    hub.breaks = {"train.jsonl": [100_000, 50_000]}
    fetch(source(), tmp_path / "out")
    assert (tmp_path / "out" / "train.jsonl").read_bytes() == FILES["train.jsonl"]
    ranges = [asked for name, asked in hub.asked if name == "train.jsonl"]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_fetch_that_gave_up_goes_on_in_the_next_call(hub, tmp_path: Path):
    hub.breaks = {"train.jsonl": [100_000] + [0] * 9}
    with pytest.raises(InputError, match=r"train\.jsonl: cannot be fetched: .*; run this again") as raised:
        fetch(source(), tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()
    hub.breaks, hub.asked = {}, []
    fetch(source(), tmp_path / "out")
    assert (tmp_path / "out" / "train.jsonl").read_bytes() == FILES["train.jsonl"]
    assert hub.asked[0] == ("train.jsonl", "bytes=100000-")
    assert not list((tmp_path / "out").glob("*partial*"))


def test_whole_files_are_not_fetched_again(hub, tmp_path: Path):
    hub.breaks = {"test.jsonl": [0] * 9}
    with pytest.raises(InputError, match="test"):
        fetch(source(), tmp_path / "out")
    hub.breaks, hub.asked = {}, []
    fetch(source(), tmp_path / "out")
    assert [name for name, _ in hub.asked] == ["test.jsonl"]


def test_a_server_without_ranges_begins_anew(hub, tmp_path: Path):
    hub.ranges, hub.breaks = False, {"train.jsonl": [100_000]}
    fetch(source(), tmp_path / "out")
    assert (tmp_path / "out" / "train.jsonl").read_bytes() == FILES["train.jsonl"]


def test_a_file_that_changed_meanwhile_is_not_joined_to_its_older_half(hub, tmp_path: Path):
    url, out = f"{hub.address}/x/resolve/main/train.jsonl", tmp_path / "kb"
    hub.breaks = {"train.jsonl": [100_000] + [0] * 9}
    with pytest.raises(InputError, match="run this again"):
        transfer.transfer(url.replace("/x/", "/"), out, None, None, {})
    hub.breaks, hub.files["train.jsonl"] = {}, b"other " * 50_000
    found = transfer.transfer(url.replace("/x/", "/"), out, None, None, {})
    assert out.read_bytes() == b"other " * 50_000
    assert found == {"bytes": 300_000, "sha256": digest(b"other " * 50_000)}


@pytest.mark.parametrize("known", [True, False])
def test_zeros_that_a_stopped_machine_left_are_fetched_again(hub, tmp_path: Path, monkeypatch, known: bool):
    monkeypatch.setattr(transfer, "CHUNK", 1000)
    monkeypatch.setattr(transfer, "SYNCED", 5000)
    url, out, content = f"{hub.address}/resolve/main/train.jsonl", tmp_path / "kb", FILES["train.jsonl"]
    sizes, stages, fsync = {}, [], os.fsync

    def stop():
        now = {path.name: (path.read_bytes(), sizes.get(path.stat().st_ino, 0)) for path in tmp_path.iterdir()}
        stages.append({name: held[:size].ljust(len(held), b"\0") for name, (held, size) in now.items()})

    def sync(descriptor):
        stop()
        fsync(descriptor)
        sizes[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size
        stop()

    hub.breaks = {"train.jsonl": [100_000] + [0] * 9}
    monkeypatch.setattr(os, "fsync", sync)
    expected = (len(content), digest(content)) if known else (None, None)
    with pytest.raises(InputError, match="run this again"):
        transfer.transfer(url, out, *expected, {})
    monkeypatch.setattr(os, "fsync", fsync)
    assert len(stages) > 20
    hub.breaks = {}
    for number, stage in enumerate(stages[::7]):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        for name, held in stage.items():
            (folder / name).write_bytes(held)
        hub.asked.clear()
        transfer.transfer(url, folder / "kb", *expected, {})
        assert (folder / "kb").read_bytes() == content
        assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == ["kb"]
    assert len(hub.asked) == 1
    assert int(hub.asked[0][1].removeprefix("bytes=").removesuffix("-")) > 80_000


def test_without_a_mark_of_its_version_a_file_begins_anew(hub, tmp_path: Path):
    url, out = f"{hub.address}/resolve/main/train.jsonl", tmp_path / "kb"
    transfer.partial_of(out).write_bytes(b"another")
    transfer.transfer(url, out, None, None, {})
    assert out.read_bytes() == FILES["train.jsonl"]
    transfer.partial_of(out).write_bytes(FILES["train.jsonl"][:7])
    transfer.transfer(url, out, None, digest(FILES["train.jsonl"]), {})
    assert [asked for _, asked in hub.asked] == [None, "bytes=7-"]


def test_only_the_web_is_asked_and_for_no_more_than_allowed(hub, tmp_path: Path):
    for url in ("file:///etc/passwd", "ftp://x/y", "x"):
        with pytest.raises(InputError, match="not a web address"):
            transfer.transfer(url, tmp_path / "out", None, None, {})
    with pytest.raises(InputError, match="more than 1000 bytes; not fetched"):
        transfer.transfer(f"{hub.address}/resolve/main/train.jsonl", tmp_path / "out", None, None, {}, most=1000)
    assert not (tmp_path / "out").exists()


def test_wrong_bytes_are_an_error_and_leave_nothing(hub, tmp_path: Path):
    hub.damaged = {"train.jsonl"}
    with pytest.raises(InputError, match=r"its SHA-256 is .*, expected .*; fetch it again"):
        fetch(source(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("train.jsonl*"))


def test_what_was_recorded_holds_for_later_fetches(hub, tmp_path: Path):
    hub.small = {"test.jsonl"}
    fetch(source(), tmp_path / "out")
    hub.files["test.jsonl"] = b"TEST"
    with pytest.raises(InputError, match=r"its SHA-256 is .*, expected"):
        fetch(source(), tmp_path / "out")
    hub.small = set()
    with pytest.raises(InputError, match=r"test\.jsonl: its sha256 is .*, but was recorded as .* remove .*out\.json"):
        fetch(source(), tmp_path / "out")
    hub.files["test.jsonl"] = b"longer"
    with pytest.raises(InputError, match=r"its bytes is 6, but was recorded as 4"):
        fetch(source(), tmp_path / "out")
    assert (tmp_path / "out" / "test.jsonl").read_bytes() == b"test"


def test_another_revision_is_recorded_anew(hub, tmp_path: Path):
    fetch(source(), tmp_path / "out")
    hub.files["test.jsonl"] = b"another"
    fetch(source({"name": "questions", "revision": "v2"}), tmp_path / "out")
    assert (tmp_path / "out" / "test.jsonl").read_bytes() == b"another"
    assert json.loads((tmp_path / "out.json").read_text())["commit"] == COMMITS["v2"]


def test_known_sums_are_held_against_the_hub_and_a_local_folder(hub, tmp_path: Path):
    pinned = {**KNOWN["questions"], "sums": {"test.jsonl": {"bytes": 4, "sha256": digest(b"else")}}}
    with pytest.raises(InputError, match=r"test\.jsonl: its sha256 is"):
        fetch(resolve("q", "questions", {"q": pinned}, "here"), tmp_path / "out")
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    local = resolve({"name": "q", "path": str(tmp_path)}, "questions", {"q": pinned}, "here")
    with pytest.raises(InputError, match=r"test\.jsonl: its SHA-256 is .*, expected"):
        fetch(local, tmp_path / "out")
    pinned["sums"]["test.jsonl"]["sha256"] = digest(b"test")
    fetch(local, tmp_path / "out")
    assert (tmp_path / "out" / "test.jsonl").is_symlink()
    assert (tmp_path / "out" / "test.jsonl").read_bytes() == b"test"
    assert json.loads((tmp_path / "out" / "source.json").read_text())["files"]["test.jsonl"]["bytes"] == 4


def test_parts_are_fetched_to_one_folder_in_their_order(hub, tmp_path: Path):
    hub.files = {f"parts/images.tar.gz.part{end}": end.encode() for end in ("ab", "aa", "ac")}
    hub.files["parts/old/images.tar.gz.partaa"] = b"not these"
    parts = source("parts", "images")
    assert layout(parts) == {"archives": "archives"}
    fetch(parts, tmp_path / "out")
    assert [path.read_bytes() for path in sorted((tmp_path / "out" / "archives").iterdir())] == [b"aa", b"ab", b"ac"]


def test_a_pattern_names_local_files_too(tmp_path: Path):
    (tmp_path / "own" / "parts" / "old").mkdir(parents=True)
    for end in ("ab", "aa", "old/ac"):
        (tmp_path / "own" / "parts" / end).write_text(end)
    fetch(
        source({"name": "parts", "path": str(tmp_path / "own")} | {"files": {"archives": "parts/a*"}}, "images"),
        tmp_path / "out",
    )
    assert [path.read_text() for path in sorted((tmp_path / "out" / "archives").iterdir())] == ["aa", "ab"]


def test_no_room_on_the_disk_is_said_before_anything_is_fetched(hub, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"0\.0 GB to fetch, but only 0\.0 GB are free; free some space"):
        fetch(source(), tmp_path / "out")
    assert hub.asked == []


def test_a_folder_of_images_is_used_where_it_is(tmp_path: Path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(b"a")
    images = source({"path": str(tmp_path / "pictures")}, "images")
    assert layout(images) == {"images": "images"}
    fetch(images, tmp_path / "out")
    assert (tmp_path / "out" / "images" / "a.jpg").read_bytes() == b"a"
    (tmp_path / "pictures" / "b.jpg").write_bytes(b"b")
    assert (tmp_path / "out" / "images" / "b.jpg").read_bytes() == b"b"


@pytest.mark.parametrize(
    ("value", "purpose", "message"),
    [
        ("viquae", "questions", "no source is called 'viquae'; config/sources.yaml has questions, parts"),
        ({"folder": "x"}, "questions", "field 'folder' is unknown: use name, path"),
        ({"path": 3}, "questions", "field 'path' is int, expected str"),
        ({"path": "x", "files": "train.jsonl"}, "questions", "field 'files' is str, expected Mapping"),
        ({"path": "x", "files": {"train": [1]}}, "questions", "field 'files.train' is not a file, pattern, or list"),
        ({"files": SPLITS}, "questions", "neither a name of config/sources.yaml nor a path nor a repository"),
        ("parts", "questions", "its files are archives; questions are test, train, validation"),
        ("questions", "images", "its files are test, train, validation; images are images or archives"),
        ({"repository": "a/b"}, "wikipedia", "its files are missing; wikipedia are wikipedia"),
        ({"path": "x", "files": {"archives": "a.tar"}}, "images", "bytes_unpacked, the most that may come out of its"),
        ({"path": "x", "files": {"train": "a"}}, "questions", "its files are train; questions are"),
    ],
)
def test_a_wrong_source_is_one_line_that_names_its_place(value, purpose: str, message: str):
    with pytest.raises(InputError, match=message) as raised:
        resolve(value, purpose, KNOWN, "config, data.source.x")
    assert str(raised.value).startswith("config, data.source.x: ")
    assert "\n" not in str(raised.value)


def test_missing_files_and_folders_are_one_line(hub, tmp_path: Path):
    del hub.files["test.jsonl"]
    with pytest.raises(InputError, match=r"questions: team/data has no file test\.jsonl, which should hold its test"):
        fetch(source(), tmp_path / "out")
    with pytest.raises(InputError, match="parts: team/data has no file parts/"):
        fetch(source("parts", "images"), tmp_path / "out")
    with pytest.raises(InputError, match="team/other at main: cannot be fetched from the hub"):
        fetch(source({"repository": "team/other", "files": SPLITS}), tmp_path / "out")
    with pytest.raises(InputError, match="gone is not a folder; fix the source's path"):
        fetch(source({"path": str(tmp_path / "gone")}), tmp_path / "out")
    with pytest.raises(InputError, match=r"has no file train\.jsonl, which should hold its train"):
        fetch(source({"path": str(tmp_path)}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_table_of_sources_describes_every_one_of_them():
    table = yaml.safe_load(TABLE.read_text())
    purposes = {"viquae_wikipedia": "wikipedia", "miniviquae_wikipedia": "wikipedia", "kilt_wikipedia": "wikipedia"}
    purposes |= {"viquae_images": "images", "viquae_all_images": "images", "viquae_passages": "passages"}
    for name in table:
        found = resolve(name, purposes.get(name, "questions"), table, "here")
        assert found["name"] == name
        assert ("repository" in found) != ("url" in found)
        assert "archives" not in found["files"] or found["bytes_unpacked"] > 0
    assert layout(resolve("viquae_wikipedia", "wikipedia", table, "here")) == {
        "non_humans": "non_humans.jsonl.gz",
        "humans_with_faces": "humans_with_faces.jsonl.gz",
        "humans_without_faces": "humans_without_faces.jsonl.gz",
    }
    assert set(OWN) == {"questions", "wikipedia", "images", "passages", "entities", "trivia"}
