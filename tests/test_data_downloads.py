import hashlib
import stat
import zipfile
from pathlib import Path

import pytest
import yaml

from vlret.data.downloads import FIELDS, download, unpack
from vlret.files import InputError

WHEEL = "vlret_test_data-1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: vlret-test-data\nVersion: 1.0\n"
TABLE = Path(__file__).parents[1] / "config" / "downloads.yaml"


def archive(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in members.items():
            file.writestr(name, text)
    return path


class Registry:
    """A folder that pip takes for the registry, with one wheel in it, and the table that pins it."""

    def __init__(self, folder: Path):
        self.table, self.out = folder / "downloads.yaml", folder / "out"
        (folder / "registry").mkdir()
        members = {
            "data/__init__.py": "raise SystemExit('a download was run')",
            "data/facts.json": "{}",
            "vlret_test_data-1.0.dist-info/METADATA": METADATA,
            "vlret_test_data-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "vlret_test_data-1.0.dist-info/RECORD": "",
        }
        self.wheel = archive(folder / "registry" / WHEEL, members)
        content = self.wheel.read_bytes()
        self.entry = {
            "version": "1.0",
            "file": WHEEL,
            "bytes": len(content),
            "bytes_unpacked": 10_000,
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    def download(self, **changes: object) -> None:
        self.table.write_text(yaml.safe_dump({"vlret-test-data": {**self.entry, **changes}}))
        download("vlret-test-data", self.table, self.out)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.wheel.parent))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return made


def test_a_download_is_unpacked_as_data(registry: Registry):
    registry.download()
    assert (registry.out / "data" / "facts.json").read_text() == "{}"
    assert sorted(path.name for path in registry.out.iterdir()) == ["data", "vlret_test_data-1.0.dist-info"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, rf"{WHEEL}: sha256 is [0-9a-f]{{64}}, expected 0{{64}}; .*downloads\.yaml pins"),
        ({"bytes": 7}, rf"{WHEEL}: bytes is \d+, expected 7; "),
        ({"bytes_unpacked": 100}, rf"{WHEEL}: unpacks to more than 100 bytes"),
        ({"version": "2.0"}, r"vlret-test-data==2\.0: pip cannot download it: ERROR: No matching distribution"),
        ({"file": "other.whl"}, rf"expected the file other\.whl, the registry gave {WHEEL}"),
        ({"sha256": None}, r"downloads\.yaml: field vlret-test-data\.sha256 is missing or not str"),
    ],
)
def test_anything_but_the_pinned_file_is_an_error_and_leaves_nothing(registry: Registry, changes: dict, message: str):
    with pytest.raises(InputError, match=message) as raised:
        registry.download(**changes)
    assert "\n" not in str(raised.value)
    assert not registry.out.exists()
    assert not list(registry.out.parent.glob(".*"))


def test_a_failed_download_leaves_an_earlier_one_as_it_was(registry: Registry):
    registry.download()
    with pytest.raises(InputError, match="sha256"):
        registry.download(sha256="0" * 64)
    assert (registry.out / "data" / "facts.json").is_file()


def test_a_package_that_the_table_lacks_is_an_error(registry: Registry):
    registry.download()
    with pytest.raises(InputError, match=r"downloads\.yaml: no package numpy"):
        download("numpy", registry.table, registry.out)
    with pytest.raises(InputError, match=r"gone\.yaml: no such file"):
        download("numpy", registry.table.with_name("gone.yaml"), registry.out)


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "a/../../evil", "C:/evil", "a\\..\\..\\evil"])
def test_a_member_that_leads_out_of_the_folder_is_an_error(tmp_path: Path, name: str):
    made = archive(tmp_path / "a.whl", {"good": "", name: "evil"})
    with pytest.raises(InputError, match="is outside the folder"):
        unpack(made, 1000, tmp_path / "out")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_link_or_a_special_file_is_an_error(tmp_path: Path, kind: int):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as file:
        member = zipfile.ZipInfo("link")
        member.external_attr = (kind | 0o777) << 16
        file.writestr(member, "/etc/passwd")
    with pytest.raises(InputError, match="'link' is not a plain file"):
        unpack(tmp_path / "a.whl", 1000, tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_doubled_or_broken_member_is_an_error(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as file:
        file.writestr("twice", "one")
        file.writestr("twice", "two")
    with pytest.raises(InputError, match=r"a\.whl: cannot be unpacked \(.*File exists"):
        unpack(tmp_path / "a.whl", 1000, tmp_path / "out1")
    whole = archive(tmp_path / "b.whl", {"file": "x" * 1000}).read_bytes()
    (tmp_path / "b.whl").write_bytes(whole[:40] + b"\0\0\0" + whole[43:])
    with pytest.raises(InputError, match=r"b\.whl: cannot be unpacked"):
        unpack(tmp_path / "b.whl", 10_000, tmp_path / "out2")


def test_what_comes_out_is_counted_not_what_the_header_says(tmp_path: Path):
    made = archive(tmp_path / "a.whl", {"bomb": "0" * 10_000_000})
    content = made.read_bytes()
    size = (10_000_000).to_bytes(4, "little")
    made.write_bytes(content.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(InputError):
        unpack(made, 1000, tmp_path / "out")
    assert sum(path.stat().st_size for path in tmp_path.rglob("bomb")) <= 1000


def test_the_table_pins_every_package_fully():
    entries = yaml.safe_load(TABLE.read_text())
    assert len(entries) == 6
    for package, entry in entries.items():
        assert set(entry) == {*FIELDS, "holds", "licence", "source"}
        assert all(isinstance(entry[field], kind) for field, kind in FIELDS.items())
        assert entry["file"].startswith(f"{package.replace('-', '_')}-{entry['version']}-")
        assert entry["file"].endswith("-none-any.whl"), "data are the same on every machine"
        assert len(bytes.fromhex(entry["sha256"])) == 32
        assert entry["bytes"] < entry["bytes_unpacked"]
