import errno
import os
import platform
import subprocess
import sys
import time

import pytest

from vlret.data.images import ImageError
from vlret.data.records import RecordError
from vlret.files import InputError, atomic, read_json, read_jsonl, sha256, write_json, write_jsonl


def test_a_file_appears_only_when_complete(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with atomic(target) as aside:
        aside.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"


def test_an_exception_leaves_the_old_file(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(target) as aside:
        aside.write_text("half") / 0
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
    assert target.read_text() == "old"


def test_if_ready_raises_nothing_is_written(tmp_path):
    with pytest.raises(InputError), atomic(tmp_path / "file", raiser) as aside:
        aside.write_text("new")
    assert not list(tmp_path.iterdir())


def raiser():
    raise InputError("not ready")


def test_a_folder_is_replaced_entirely(tmp_path):
    target = tmp_path / "folder"
    for name in ("first", "second"):
        with atomic(target) as aside:
            aside.mkdir()
            (aside / name).touch()
    assert [path.name for path in target.iterdir()] == ["second"]


def test_leftovers_of_dead_processes_are_removed_and_of_live_ones_kept(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = tmp_path / f".file.{platform.node()}.{int(dead.stdout)}.partial"
    living = tmp_path / f".file.{platform.node()}.{os.getppid()}.partial"
    elsewhere = tmp_path / f".file.another-host.{int(dead.stdout)}.partial"
    odd = [tmp_path / name for name in (f".file.{platform.node()}.x.partial", ".partial", "a.1.partial")]
    for path in (left, living, elsewhere, *odd):
        path.touch()
    with atomic(tmp_path / "file") as aside:
        aside.touch()
    assert not left.exists()
    assert all(path.exists() for path in (living, elsewhere, *odd))


def test_another_users_process_counts_as_live(tmp_path, monkeypatch):
    left = tmp_path / f".file.{platform.node()}.1.partial"
    left.touch()

    def refuse(process, signal):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    write_json(tmp_path / "file", 1)
    assert left.exists()


def test_leftovers_untouched_for_a_week_are_removed(tmp_path):
    old = time.time() - 8 * 24 * 3600
    stale, fresh, inside = (tmp_path / f".{name}.another.host.7.partial" for name in ("stale", "fresh", "inside"))
    living = tmp_path / f".x.{platform.node()}.{os.getppid()}.partial"
    for folder in (stale, inside):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "file").touch()
        for path in (folder / "deep" / "file", folder / "deep", folder):
            os.utime(path, (old, old))
    os.utime(inside / "deep" / "file")
    others = [tmp_path / name for name in ("y.host.7.partial", ".hidden", ".notes.partial")]
    for path in (fresh, living, *others):
        path.touch()
    for path in (living, *others):
        os.utime(path, (old, old))
    write_json(tmp_path / "file", 1)
    assert not stale.exists()
    assert not living.exists()
    assert all(path.exists() for path in (fresh, inside, *others))


def test_files_are_synced_before_the_rename(tmp_path, monkeypatch):
    synced, fsync, replace = set(), os.fsync, os.replace

    def sync(descriptor):
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def rename(source, target):
        inside = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
        assert {path.stat().st_ino for path in inside} <= synced
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    write_json(tmp_path / "file", 1)
    with atomic(tmp_path / "folder") as aside:
        (aside / "deep").mkdir(parents=True)
        (aside / "deep" / "file").write_text("x")
    assert len(synced) == 2


def test_json_round_trip(tmp_path):
    write_json(tmp_path / "a.json", {"é": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"é": [1, 2.5, None]}
    write_jsonl(tmp_path / "a.jsonl", [{"a": 1}, {"b": 2}])
    assert list(read_jsonl(tmp_path / "a.jsonl")) == [(1, {"a": 1}), (2, {"b": 2})]


@pytest.mark.parametrize(("text", "message"), [('{"a": 1}\n\n{"a"\n', "line 3"), ("[1]\n", "expected an object")])
def test_a_bad_line_is_named(tmp_path, text, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=f"bad.jsonl, line .*{message}|bad.jsonl, {message}") as caught:
        list(read_jsonl(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_json, lambda path: list(read_jsonl(path))])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(InputError, match=r"nothing\.json: no such file"):
        read(tmp_path / "nothing.json")


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_input_error_is_one_printable_line_whatever_it_quotes():
    quoted = "a\nb\x1b[31m\u2028\ud800 é 🏛  x"
    text = r"f: a\nb\x1b[31m\u2028\ud800 é 🏛  x"
    assert str(InputError(f"f: {quoted}")) == text
    assert str(RecordError(f"f: {quoted}")) == text
    assert str(ImageError("f", quoted)) == r"f: a b\x1b[31m \ud800 é 🏛 x"


@pytest.mark.parametrize("name", ["list.json", "folder"])
def test_anything_but_a_json_object_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"expected an object, found list|cannot be read .*Is a directory"):
        read_json(tmp_path / name)
