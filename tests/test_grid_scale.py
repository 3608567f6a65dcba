"""A grid of a thousand experiments: the cost of a dry run and of all states, in CPU seconds."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import yaml

from vlret.config import load_config
from vlret.experiment import grid

ROOT = Path(__file__).parents[1]
TUNINGS = ["zs", "visual", "prompt", "adapter", "lora", "ia3", "full", "bitfit", "compacter", "lradapter"]
POOLINGS = ["1token", "avg", "avg-all", "eos", "sum-last-2"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The workflow with a config of 1,000 experiments, a third of them done and the rest in the log of a run."""
    folder = tmp_path_factory.mktemp("scale")
    for name in ("workflow", "rules", "envs", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "config").mkdir()
    for path in (ROOT / "config").iterdir():
        if path.name != "config.yaml":
            (folder / "config" / path.name).symlink_to(path)
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    prefixes = {"none": "", **{f"p{number}": f"prefix {number}:" for number in range(19)}}
    block = {"model": "vlminilm", "tuning": TUNINGS, "prefix": list(prefixes), "pooling": POOLINGS}
    config |= {"grid": {"product": [block]}, "prefixes": prefixes, "fusions": {}}
    config["training"]["tuning"]["lora"] = {"gpus": 2, "nodes": 4}
    del config["ablations"]
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


# In a separate process, since a forked process inherits its parent's memory until it executes another program.
MEASURE = """
import json, resource, subprocess, sys
with open("said", "w") as said:
    code = subprocess.run([sys.executable, "-m", *sys.argv[1:]], stdout=said, stderr=subprocess.STDOUT).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024]))
"""


def cost(folder, *command):
    """A command's output, its CPU seconds, and its peak memory in bytes."""
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], cwd=folder, stdout=subprocess.PIPE, check=True
    ).stdout
    code, seconds, memory = json.loads(measured)
    text = (folder / "said").read_text()
    assert code == 0, text[-2000:]
    return text, seconds, memory


# The baseline: as many jobs of bare rules.
BARE = """
STAGES = ["train", "embed", "embed_questions", "search", "metrics"]
rule table:
    input: expand("metrics/{number}", number=range(1000))
    output: "results/table.tex"
    shell: "touch {output}"
for before, stage in zip([None, *STAGES], STAGES):
    rule:
        name: stage
        input: f"{before}/{{number}}" if before else []
        output: f"{stage}/{{number}}"
        log: f"logs/{stage}/{{number}}.log"
        benchmark: f"benchmarks/{stage}/{{number}}.tsv"
        params: number="{number}"
        resources: gres="gpu:1"
        shell: "touch {output}"
"""


@pytest.mark.slow
def test_a_dry_run_of_a_thousand_experiments_costs_little_more_than_one_of_bare_rules(repository, tmp_path):
    (tmp_path / "Snakefile").write_text(BARE)
    _, bare, _ = cost(tmp_path, "snakemake", "--dry-run", "--", "results/table.tex")
    text, seconds, memory = cost(repository, "snakemake", "--dry-run", "--", "results/table.tex")
    for rule in ("train", "embed", "embed_questions", "search", "metrics"):
        assert f"{rule} 1000" in " ".join(text.split())
    # The Slurm request: on one node the plugin starts the job, on several the command does.
    assert text.count("gres=gpu:1, processes=1, nodes=1") == 900
    assert text.count("gres=gpu:2, processes=2, nodes=4, tasks=4, tasks_per_gpu=0, mpi=srun") == 100
    print(f"dry run of 1,000 experiments: {seconds:.1f} CPU s, bare {bare:.1f} CPU s, {memory / 2**20:.0f} MiB")
    assert seconds <= 4 * bare
    assert memory <= 2**30


def test_the_state_of_a_thousand_experiments_takes_at_most_five_seconds(repository):
    names = [e.name for e in grid(load_config(["config/config.yaml"], repository))]
    assert names == [
        "_".join(("vlminilm", *parts)) for parts in product(TUNINGS, ["none", *(f"p{n}" for n in range(19))], POOLINGS)
    ]
    results = repository / "results" / "sample"
    encoded = "embeddings/passages/{}/1-of-1", "embeddings/questions/{}.npy"
    for stage in ("checkpoints/{}", *encoded, "runs/{}.trec", "metrics/{}.json"):
        for name in names[:300]:
            path = results / stage.format(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    lines = [
        "  Host: elsewhere",
        "Job stats:",
        "job      count",
        "-----  -------",
        "train      1000",
        "total      1000",
        "",
    ]
    for number, name in enumerate(names):
        lines += [
            "rule train:",
            f"    input: {'a/long/path/of/a/table ' * 20}",
            f"    output: results/sample/checkpoints/{name}",
        ]
        lines += [f"    log: results/sample/logs/train/{name}.log", f"    jobid: {number}"]
        lines += [f"Finished jobid: {number} (Rule: train)"] if number < 300 else []
    log = repository / ".snakemake" / "log" / "2026-11-22T000000.0.snakemake.log"
    log.parent.mkdir(parents=True)
    log.write_text("\n".join(lines) + "\n")
    for command in (("grid", "--status"), ("status",)):
        text, seconds, _ = cost(repository, "vlret", *command)
        print(f"vlret {' '.join(command)} of 1,000 experiments: {seconds:.1f} CPU s")
        assert seconds <= 5
        if command[0] == "grid":
            assert text.endswith("1000 rows: 300 done, 0 stale, 700 running, 0 failed, 0 to run\n")
        else:
            assert "train 300 700 0 0" in " ".join(text.split())
