"""A full disk is one line that names the folder, whatever library meets it; a small file system of its own is one."""

import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import save_file

from vlret.disk import disk_errors
from vlret.files import InputError, write_json

SIZE = 2**18  # bytes
LARGE = np.zeros(4 * SIZE, np.uint8)
WRITERS = {
    "text": lambda path: path.write_text("x" * 4 * SIZE),
    "JSON": lambda path: write_json(path, ["x" * 4 * SIZE]),
    "NumPy": lambda path: np.save(path, LARGE),
    "torch": lambda path: torch.save(torch.from_numpy(LARGE), path),
    "safetensors": lambda path: save_file({"x": torch.from_numpy(LARGE)}, path),
    "datasets": lambda path: Dataset.from_dict({"x": ["y" * SIZE] * 4}).save_to_disk(path),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The folder of a file system of 256 KiB."""
    folder = tmp_path_factory.mktemp("small")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_told_in_one_line(small, writer):
    out = small / "results" / writer / "out"
    out.parent.mkdir(parents=True)
    with pytest.raises(InputError, match=f"^disk full: {out.parent}$"), disk_errors(out):
        WRITERS[writer](out)
    for path in out.parent.iterdir():
        path.unlink() if path.is_file() else [each.unlink() for each in path.iterdir()]


def test_what_has_nothing_to_do_with_the_disk_stays_as_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError), disk_errors(tmp_path / "out"):
        1 / 0  # noqa: B018
    with pytest.raises(FileNotFoundError), disk_errors(None):
        Path(tmp_path / "none").read_text()


def test_what_a_stage_made_an_error_of_its_own_is_still_a_full_disk(tmp_path):
    def unpack():
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise InputError("a.zip: cannot be unpacked") from error

    with pytest.raises(InputError, match=f"^disk full: {tmp_path}$"), disk_errors(tmp_path / "out"):
        unpack()
    with pytest.raises(InputError, match=r"^a mistake$"), disk_errors(tmp_path / "out"):
        raise InputError("a mistake")


def test_what_may_not_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match=r"^/proc/version: .*; check its permissions"), disk_errors(tmp_path):
        Path("/proc/version").unlink()
