"""Images come in order from processes that a file may crash or block, with the reason."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlret.data import images
from vlret.data.images import ImageError
from vlret.features import workers
from vlret.features.workers import prepared


def size(image):
    return image.size


def misbehave(image):
    """Misbehave as a decoder may, depending on the image's width."""
    width = image.size[0]
    if width == 13:
        os.kill(os.getpid(), signal.SIGSEGV)
    if width == 14:
        time.sleep(600)
    if width == 15:
        return np.ones(2**31)
    if width == 17:
        time.sleep(0.2)
    return width


@pytest.fixture
def folder(tmp_path):
    def folder(widths):
        names = [f"{number:03}.png" for number in range(len(widths))]
        for name, width in zip(names, widths, strict=True):
            Image.new("RGB", (width, 5)).save(tmp_path / name)
        return names

    folder.path = tmp_path
    return folder


@pytest.mark.parametrize("workers", [1, 3])
def test_results_are_in_the_order_of_the_names(folder, workers):
    widths = [17, *range(20, 120), 17, 20]
    names = folder(widths)
    assert list(prepared(names, folder.path, misbehave, workers)) == list(zip(names, widths, strict=True))


def test_error_paths_start_with_the_given_folder(folder, monkeypatch):
    folder([20])
    monkeypatch.chdir(folder.path.parent)
    ((_, missing),) = prepared(["gone.png"], Path(folder.path.name), size, 1)
    assert str(missing) == f"{folder.path.name}/gone.png: no such file"


def test_missing_files_and_paths_are_rejected(folder):
    folder([20])
    (folder.path / "torn.png").write_bytes((folder.path / "000.png").read_bytes()[:40])
    names = ["000.png", "gone.png", "../000.png", "torn.png", "000.png"]
    results = [result for _, result in prepared(names, folder.path, size, 2)]
    assert results[0] == results[4] == (20, 5)
    assert [isinstance(result, ImageError) for result in results] == [False, True, True, True, False]
    assert results[1].reason == "no such file"
    assert results[2].reason == "not a file name in the image folder"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crashing_decoder_costs_only_its_file(folder, workers):
    widths = [20, 13, 21, 22, 13, 13, *range(30, 60)]
    names = folder(widths)
    for (name, result), width in zip(prepared(names, folder.path, misbehave, workers), widths, strict=True):
        if width == 13:
            assert str(result) == f"{folder.path / name}: crashed its decoding process (code -11); convert it"
        else:
            assert result == width


def test_a_hanging_decoder_is_stopped(folder, monkeypatch):
    monkeypatch.setattr(workers, "SECONDS", 3)
    names = folder([20, 14, 21, 22])
    results = [result for _, result in prepared(names, folder.path, misbehave, 2)]
    assert results[1].reason == "not decoded within 3 s; convert it"
    assert [results[0], *results[2:]] == [20, 21, 22]


def test_a_start_message_between_two_polls_is_not_a_result():
    worker = object.__new__(workers._Worker)
    ours, theirs = Pipe()
    worker.started = False

    class Late:
        """A pipe on which the start message arrives just after it was polled empty."""

        def poll(self):
            there = ours.poll()
            if not worker.started and not there:
                theirs.send("")
            return there

        recv = staticmethod(ours.recv)

    worker.pipe = Late()
    assert not worker.has_result()
    assert not worker.has_result()
    assert worker.started
    theirs.send(20)
    assert worker.has_result()
    assert worker.receive() == 20


def test_a_file_that_needs_too_much_memory_is_rejected(folder):
    names = folder([20, 15, 21])
    results = [result for _, result in prepared(names, folder.path, misbehave, 1)]
    assert results[1].reason == "needs more than 4 GiB to decode; scale it down"
    assert [results[0], results[2]] == [20, 21]


class UnheardOf(Exception):
    """An unexpected error of some library."""


def fail(image):
    raise UnheardOf("\ud800\n" + "x" * 1000)


def fail_at_wide(image):
    return image.size[0] if image.size[0] < 70 else fail(image)


def test_any_preparation_error_costs_only_its_image(folder):
    names = folder([20, 70, 16, 21])
    results = [result for _, result in prepared(names, folder.path, fail_at_wide, 2)]
    assert [results[0], *results[2:]] == [20, 16, 21]
    assert results[1].reason.startswith("cannot be prepared (UnheardOf: \\ud800 xxx")
    assert len(results[1].reason) < 300
    assert results[1].reason.encode()


@pytest.mark.parametrize("function", ["_looks_like_svg", "_decode", "over_white"])
def test_any_reading_error_costs_only_its_image(folder, monkeypatch, function):
    names = folder([20])
    monkeypatch.setattr(images, function, fail)
    with pytest.raises(ImageError, match=r"000\.png: cannot be read \(UnheardOf"):
        images.open_image(folder.path / names[0])


def test_impossible_file_names(folder):
    folder([20])
    names = ["x" * 5000, "a\0b", "\ud800", "é" * 200, "000.png"]
    results = [result for _, result in prepared(names, folder.path, size, 1)]
    long = "cannot be read (OSError: File name too long)"
    assert [result.reason for result in results[:-1]] == [long, "no such file", "no such file", long]
    assert results[-1] == (20, 5)


def test_a_bug_in_prepare_is_not_blamed_on_the_files(folder):
    names = folder([20, 16, 21])
    with pytest.raises(RuntimeError, match=r"(?s)even a plain image.*UnheardOf"):
        list(prepared(names, folder.path, fail, 2))


def test_no_process_outlives_the_reader(folder):
    names = folder(list(range(20, 80)))
    pairs = prepared(names, folder.path, size, 2)
    next(pairs)
    pool = pairs.gi_frame.f_locals["pool"]
    processes = [worker.process for worker in pool.workers]
    assert len(processes) == 2
    pairs.close()
    assert all(process.poll() is not None for process in processes)


def test_decoders_do_not_import_torch():
    command = "import sys, vlret.features.workers, vlret.features.pixels; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)


def test_no_image_at_all(folder):
    assert list(prepared([], folder.path, size, 2)) == []
