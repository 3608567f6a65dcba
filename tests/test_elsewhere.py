"""The workflow from another folder, as a module of another workflow, and parsed with few of the dependencies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SNAKEFILE = ROOT / "workflow" / "Snakefile"
MODULE = f"""
import yaml

module kvqa:
    snakefile: "{SNAKEFILE}"
    config: yaml.safe_load(open("{ROOT}/tests/cut-down.yaml"))
    prefix: "kvqa"

use rule * from kvqa as kvqa_*

rule all:
    default_target: True
    input: "kvqa/results/table.tex"
"""
FORBIDDEN = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in {"torch", "datasets", "faiss", "transformers", "ranx", "pyarrow", "tqdm", "huggingface_hub"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Finder())
"""


def snakemake(folder, *arguments, **environment):
    """Run Snakemake in a folder, with the stub of `vlret`, and return its output."""
    path = f"{ROOT / 'tests' / 'stub'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_a_module_with_a_prefix_writes_only_below_it(tmp_path):
    (tmp_path / "Snakefile").write_text(MODULE)
    snakemake(tmp_path, "--cores", "8")
    assert (tmp_path / "kvqa" / "results" / "table.tex").exists()
    assert (tmp_path / "kvqa" / "results" / "cut-down" / "checkpoints" / "vlminilm_adapter_none_avg" / "x").exists()
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"settings"}
    again = snakemake(tmp_path, "--dry-run", "--rerun-triggers", "mtime", "params")
    assert "Nothing to be done" in again


def test_the_workflow_runs_from_another_folder_with_its_own_paths(tmp_path):
    target = "results/cut-down/data/articles"
    config = f"--configfile={ROOT / 'tests' / 'cut-down.yaml'}"
    snakemake(tmp_path, "--cores", "2", "-s", str(SNAKEFILE), config, target)
    assert (tmp_path / target).exists()
    snakemake(tmp_path, "--cores", "2", "-s", str(SNAKEFILE), config, "--directory", "elsewhere", target)
    assert (tmp_path / "elsewhere" / target).exists()


def test_parsing_the_workflow_requires_only_snakemake_pyyaml_and_pydantic(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(FORBIDDEN)
    said = snakemake(tmp_path, "-n", "-s", str(SNAKEFILE), "results/table.tex", PYTHONPATH=str(tmp_path))
    assert "vlminilm_adapter_none_avg" in said
