"""Digests of content: the same for copies, others after any edit that they promise to see."""

import os
import shutil

import numpy as np
import pytest

from vlret.digests import content, fingerprint


@pytest.fixture
def folder(tmp_path):
    random, made = np.random.default_rng(0), tmp_path / "made"
    (made / "inside").mkdir(parents=True)
    for name, size in (("empty", 0), ("small", 5), ("inside/large", 5 << 20)):
        (made / name).write_bytes(random.bytes(size))
    return made


def test_a_copy_has_the_same_digest(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    os.utime(copy / "small", (0, 0))
    for digest in (content, fingerprint):
        assert digest(copy) == digest(folder) != digest(folder / "small")
        assert digest(tmp_path / "none") == ""


def test_notes_and_hidden_files_are_not_content(folder):
    before = content(folder)
    (folder / "made.json").write_text("{}")
    (folder / ".snakemake_timestamp").touch()
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("of a client")
    assert content(folder) == before


def test_an_edit_of_one_byte_is_seen(folder):
    before, known = content(folder), fingerprint(folder)
    with open(folder / "inside" / "large", "r+b") as stream:
        stream.seek(200_000)
        (byte,) = stream.read(1)
        stream.seek(200_000)
        stream.write(bytes([255 - byte]))
    assert content(folder) != before
    assert fingerprint(folder) == known, "which reads 16 positions of a large file"


@pytest.mark.parametrize("change", ["renamed", "longer", "moved"])
def test_names_sizes_and_places_count(folder, change):
    before = content(folder)
    if change == "renamed":
        (folder / "small").rename(folder / "other")
    elif change == "moved":
        (folder / "small").rename(folder / "inside" / "small")
    else:
        (folder / "empty").write_bytes(b"0")
    assert content(folder) != before


def test_a_large_file_is_read_at_even_distances(tmp_path, monkeypatch):
    """Any edit as long as the distance of two positions is seen, and short ones at the positions."""
    monkeypatch.setattr("vlret.digests.WINDOW", 4)
    path, data = tmp_path / "file", np.arange(1 << 17, dtype=np.uint8)
    path.write_bytes(data.tobytes())
    before, longest = content(path), (len(data) - 4) // 1023
    for place in (0, 4 * longest, len(data) // 2 + 3, len(data) - longest):
        changed = data.copy()
        changed[place : place + longest] += 1
        path.write_bytes(changed.tobytes())
        assert content(path) != before
