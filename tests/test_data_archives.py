import errno
import gzip
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from vlret.data import archives
from vlret.data.archives import unpack_images
from vlret.files import InputError

IMAGES = {f"images/{number}.jpg": bytes([number]) * 1000 for number in range(50)}


def packed(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """A tar.gz of files, or of members as they are given."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            info.size = len(content) if isinstance(content, bytes) else 0
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return stream.getvalue()


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A member that is not a file."""
    member = tarfile.TarInfo("x")
    member.type, member.linkname = kind, target
    return member


def contents(folder: Path) -> dict[str, bytes]:
    return {f"images/{path.name}": path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("parts", [1, 2, 22])
def test_an_archive_in_parts_is_read_as_one_stream(tmp_path: Path, parts: int):
    content = packed({"images": special(tarfile.DIRTYPE), **IMAGES})
    share = -(-len(content) // parts)
    (tmp_path / "parts").mkdir()
    for number in range(parts):
        name = f"images.tar.gz.part{chr(97 + number // 26)}{chr(97 + number % 26)}"
        (tmp_path / "parts" / name).write_bytes(content[number * share : (number + 1) * share])
    unpack_images([tmp_path / "parts"], 50_000, tmp_path / "out")
    assert contents(tmp_path / "out") == IMAGES
    if parts > 1:
        (tmp_path / "parts" / "images.tar.gz.partab").unlink()
        with pytest.raises(InputError, match=r"images\.tar\.gz\.partaa: cannot be unpacked"):
            unpack_images([tmp_path / "parts"], 50_000, tmp_path / "other")
        assert not (tmp_path / "other").exists()


def test_a_plain_tar_and_named_files_are_read_too(tmp_path: Path):
    (tmp_path / "a.tar").write_bytes(gzip.decompress(packed(IMAGES)))
    unpack_images([tmp_path / "a.tar"], 50_000, tmp_path / "out")
    assert contents(tmp_path / "out") == IMAGES


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"/etc/evil": b"x"}, "member '/etc/evil' is outside the folder"),
        ({"images/../../evil": b"x"}, "is outside the folder"),
        ({"images\\evil": b"x"}, "is outside the folder"),
        ({"images/evil": special(tarfile.SYMTYPE, "/etc/passwd")}, "member 'images/evil' is not a plain file"),
        ({"images/evil": special(tarfile.LNKTYPE, "/etc/passwd")}, "is not a plain file"),
        ({"images/evil": special(tarfile.FIFOTYPE)}, "is not a plain file"),
        ({"images/evil": special(tarfile.CHRTYPE)}, "is not a plain file"),
        ({"a/evil": b"x", "b/evil": b"y"}, "cannot be unpacked .*File exists"),
        ({"evil": b"0" * 1001}, "unpacks to more than 1000 bytes"),
        ({}, "no file in this archive"),
    ],
)
def test_what_an_archive_must_not_hold_is_refused_and_leaves_nothing(tmp_path: Path, members: dict, message: str):
    (tmp_path / "a.tar.gz").write_bytes(packed(members))
    with pytest.raises(InputError, match=message) as raised:
        unpack_images([tmp_path / "a.tar.gz"], 1000, tmp_path / "deep" / "out")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.rglob("evil"))
    assert not list((tmp_path / "deep").iterdir())


def test_a_packed_bomb_stops_at_the_limit(tmp_path: Path):
    (tmp_path / "a.tar.gz").write_bytes(packed({"bomb": b"0" * 10_000_000}))
    with pytest.raises(InputError, match="unpacks to more than 1000 bytes"):
        unpack_images([tmp_path / "a.tar.gz"], 1000, tmp_path / "out")


def test_missing_broken_and_foreign_archives_are_one_line(tmp_path: Path):
    whole = packed(IMAGES)
    plain = gzip.decompress(whole)
    broken = {"half": whole[: len(whole) // 2], "headers": plain[:15_360], "text": b"text", "none": b""}
    broken |= {"sum": whole[:-8] + bytes(8), "unended": whole[:-9]}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: cannot be unpacked"):
            unpack_images([tmp_path / name], 50_000, tmp_path / "out")
    with pytest.raises(InputError, match="gone: no such file"):
        unpack_images([tmp_path / "gone"], 1, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: an empty folder"):
        unpack_images([tmp_path / "empty"], 1, tmp_path / "out")


KILLED = """
import sys, time
from pathlib import Path
from vlret.data import archives

archives.WINDOW, copy, calls = 8_000, archives.shutil.copyfileobj, []
def slow(source, sink, *rest):
    calls.append(1)
    if len(calls) > 20:
        sink.write(source.read(500))
        sink.flush()
        print("in the middle", flush=True)
        time.sleep(600)
    copy(source, sink, *rest)
archives.shutil.copyfileobj = slow
archives.unpack_images([Path(sys.argv[1])], 50_000, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("packing", ["tar", "tar.gz"])
def test_a_killed_unpacking_goes_on_behind_what_is_synced(tmp_path: Path, monkeypatch, capsys, packing: str):
    archive, out = tmp_path / f"a.{packing}", tmp_path / "out"
    archive.write_bytes(packed(IMAGES) if packing == "tar.gz" else gzip.decompress(packed(IMAGES)))
    command = [sys.executable, "-c", KILLED, str(archive), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == b"in the middle\n"
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert not out.exists()
    assert len(list((tmp_path / "out.unfinished" / "images").iterdir())) == 21
    written, copy = [], shutil.copyfileobj
    monkeypatch.setattr(archives.shutil, "copyfileobj", lambda *given: (written.append(1), copy(*given)))
    unpack_images([archive], 50_000, out)
    assert "resuming after 16 images" in capsys.readouterr().err
    assert len(written) == 50 - 16
    assert contents(out) == IMAGES
    assert {path.name for path in tmp_path.iterdir()} == {archive.name, "out", "kept"}


def stopped(monkeypatch, archive: Path, out: Path, error: Exception, most: int = 50_000) -> None:
    """Unpack 20 members of an archive, synced each, and stop with an error."""
    copy, left = shutil.copyfileobj, iter([None] * 20)
    with monkeypatch.context() as patched:
        patched.setattr(archives, "WINDOW", 1)

        def limited(*given):
            if next(left, "none") == "none":
                raise error
            copy(*given)

        patched.setattr(archives.shutil, "copyfileobj", limited)
        with pytest.raises((InputError, KeyboardInterrupt)):
            unpack_images([archive], most, out)


def test_a_full_disk_keeps_what_is_unpacked(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "a.tar.gz").write_bytes(packed(IMAGES))
    stopped(monkeypatch, tmp_path / "a.tar.gz", tmp_path / "out", OSError(errno.ENOSPC, "No space left on device"))
    unpack_images([tmp_path / "a.tar.gz"], 50_000, tmp_path / "out")
    assert "resuming after 20 images" in capsys.readouterr().err
    assert contents(tmp_path / "out") == IMAGES


@pytest.mark.parametrize("damage", [b"", b"cut", None])
def test_an_image_that_was_damaged_meanwhile_is_written_again(tmp_path: Path, monkeypatch, damage: bytes | None):
    (tmp_path / "a.tar.gz").write_bytes(packed(IMAGES))
    stopped(monkeypatch, tmp_path / "a.tar.gz", tmp_path / "out", KeyboardInterrupt())
    third = tmp_path / "out.unfinished" / "images" / "3.jpg"
    third.unlink() if damage is None else third.write_bytes(damage)
    unpack_images([tmp_path / "a.tar.gz"], 50_000, tmp_path / "out")
    assert contents(tmp_path / "out") == IMAGES


def test_another_archive_starts_from_scratch(tmp_path: Path, monkeypatch, capsys):
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(packed(IMAGES))
    stopped(monkeypatch, archive, tmp_path / "out", KeyboardInterrupt())
    others = {name: bytes(1000) for name in list(IMAGES)[10:]}
    archive.write_bytes(packed(others))
    unpack_images([archive], 50_000, tmp_path / "out")
    assert "removed, since it was made with other settings" in capsys.readouterr().err
    assert contents(tmp_path / "out") == others


def test_the_rules_for_names_hold_when_it_goes_on_too(tmp_path: Path, monkeypatch):
    members = {**IMAGES, "others/3.jpg": bytes(1000)}
    (tmp_path / "a.tar.gz").write_bytes(packed(members))
    stopped(monkeypatch, tmp_path / "a.tar.gz", tmp_path / "out", KeyboardInterrupt(), 51_000)
    with pytest.raises(InputError, match="1 of the names are repeated"):
        unpack_images([tmp_path / "a.tar.gz"], 51_000, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]
