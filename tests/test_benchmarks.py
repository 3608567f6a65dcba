"""Each benchmark runs at its smallest sizes and prints ratios; `python benchmarks` makes a table of them."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

FOLDER = Path(__file__).parents[1] / "benchmarks"
FOUND = sorted(path for path in FOLDER.glob("[!_]*.py") if "__main__" in path.read_text(encoding="utf-8"))
SMALL = ("--small", "--threads", "1", "--cpu-time")
MACHINE, RATIO = r"%s: .+, \d+ cores, torch \S+, 1 threads, CPU time", r"ratio: [^|]+: [0-9.]+x [^|]+"


def python(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)


def test_all_benchmarks_are_found():
    assert {"accelerator", "encoding", "extraction", "lexical", "scale"} <= {path.stem for path in FOUND}


@pytest.mark.slow
@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_a_benchmark_runs_at_its_smallest_sizes(path: Path):
    done = python(path, *SMALL)
    assert done.returncode == 0, done.stderr[-2000:]
    first, *lines = done.stdout.splitlines()
    assert re.fullmatch(MACHINE % path.stem, first)
    ratios = [line for line in lines if line.startswith("ratio")]
    assert ratios
    assert all(re.fullmatch(RATIO, line) for line in ratios), ratios
    if path.stem == "sentences":
        assert "  generated articles: 0 of 10 texts differ" in lines


def test_a_ratio_has_three_digits_or_none_after_the_point(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    import bench

    for value in (0.01234, 0.5, 12.345, 99.95, 1234.5):
        bench.ratio("a search", value, "another's")
    assert re.findall(r"(\S+)x", capsys.readouterr().out) == ["0.0123", "0.5", "12.3", "100", "1234"]


def test_the_flop_of_encoding_are_those_that_torch_counts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import accelerator
    import material

    config, texts = replace(material.T5_BASE, num_layers=2), 3
    inputs = {"input_ids": torch.ones(texts, 50, dtype=torch.long), "attention_mask": torch.ones(texts, 50).bool()}
    inputs |= {"features": torch.rand(texts, material.REGIONS, material.FEATURE_DIM)}
    inputs |= {
        "boxes": torch.rand(texts, material.REGIONS, 4),
        "visual_mask": torch.ones(texts, material.REGIONS).bool(),
    }
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        material.model(config).encode("passage", inputs)
    assert accelerator.operations(config, np.full(texts, 50)) == counter.get_total_flops()


def test_all_ratios_are_put_in_one_table(tmp_path: Path):
    for name in ("__main__.py", "bench.py"):
        (tmp_path / name).write_text((FOLDER / name).read_text(encoding="utf-8"), encoding="utf-8")
    main = 'if __name__ == "__main__":\n    '
    (tmp_path / "works.py").write_text(f'{main}import sys\n    print("ratio: a search: 1.5x that of", sys.argv[1])')
    (tmp_path / "inputs.py").write_text("print('ratio: not run: 1x anything')")
    (tmp_path / "fails.py").write_text(f"{main}print('ratio: half: 2x it')\n    raise SystemExit('why')")
    done = python(tmp_path, "--out", tmp_path / "results" / "table.md", "--small")
    assert done.returncode == 1
    assert "failed: fails" in done.stdout
    head, _, failed, _, *rows = (tmp_path / "results" / "table.md").read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d, .+, \d+ cores, torch \S+, smallest sizes, options: --small\.", head)
    assert failed == "Failed: fails."
    assert rows[2:] == ["| fails | half | 2 | it |", "| works | a search | 1.5 | that of --small |"]
