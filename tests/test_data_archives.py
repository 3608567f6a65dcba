import gzip
import io
import tarfile
from pathlib import Path

import pytest

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
    assert not (tmp_path / "deep" / "out").exists()


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
