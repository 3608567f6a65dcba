"""The cache of compiled functions if neither home nor the code's folder is writable."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlret import jit

# Simulates an unwritable code folder: numba's locator for it finds nothing.
COMPILE = """
import sys
from vlret import jit
from numba.core import caching, config
for locator in (caching._SourceFileBackedLocatorMixin.__subclasses__()):
    if "InTree" in locator.__name__:
        locator.from_function = classmethod(lambda cls, function, file: None)
from vlret.evaluation import significance
from vlret.lexical import compiled, score
from vlret.runs import per_question
print(config.CACHE_DIR)
"""


def run(tmp_path, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    kept |= {"TMPDIR": str(tmp_path), **environment}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_a_writable_home_the_cache_is_a_private_temporary_folder(tmp_path):
    (tmp_path / "file").touch()
    chosen = Path(run(tmp_path, HOME=str(tmp_path / "file")))
    assert chosen == tmp_path / f"vlret-numba-{os.getuid()}"
    assert chosen.stat().st_mode & 0o077 == 0
    chosen.chmod(0o777)  # others may have written to it
    other = Path(run(tmp_path, HOME=str(tmp_path / "file")))
    assert other != chosen
    assert other.parent == tmp_path


def test_numbas_own_choice_is_kept(tmp_path):
    assert run(tmp_path, HOME=str(tmp_path)) == ""
    assert run(tmp_path, HOME="/dev/null", NUMBA_CACHE_DIR=str(tmp_path / "set")) == str(tmp_path / "set")


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_or_link_is_not_used(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    taken = tmp_path / f"vlret-numba-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir()
    taken.touch() if kind == "file" else taken.symlink_to(tmp_path / "elsewhere")
    assert jit.cache_folder() not in (None, taken)


def test_metrics_take_none_of_what_else_ranx_imports(tmp_path):
    """Neither when they are compiled nor when they are found in the cache."""
    script = """
import sys
import numpy as np
from vlret.jit import alone
from vlret.runs import Ranking, per_question
run = {"q": Ranking(np.arange(3), np.array([3.0, 2.0, 1.0]))}
values = per_question(run, {"q": {1}}, ["mrr@100", "precision@1", "hit_rate@2"])
assert [float(value[0]) for value in values.values()] == [0.5, 0, 1], values
assert {"ranx", "matplotlib", "pandas", "scipy.stats"}.isdisjoint(sys.modules)
import ranx
with alone("ranx.metrics") as metrics:
    assert ranx.metrics.precision and ranx.evaluate and metrics is ranx.metrics
try:
    with alone("no_such_library.metrics"):
        pass
except ModuleNotFoundError as error:
    print(error.name)
"""
    for _ in range(2):
        kept = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", script], env=kept, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "no_such_library\n"), done.stderr
