"""The published grid: everything that its dry run names, and the same config end to end on a miniature."""

import json
import re
from pathlib import Path

import published
import pytest
import yaml
from datasets import load_from_disk
from miniature import GRID, miniature
from test_pipeline import call, copy_repository, jobs

from vlret.config import load_config
from vlret.experiment import grid, rows, trained

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

ROOT = Path(__file__).parents[1]
BY_HAND = {
    "weights/VLT5Epoch30.pth",
    "weights/VLBartEpoch30.pth",
    "data/entities/entities.json",
    "data/entities/images",
}


@pytest.fixture(scope="module")
def config():
    return load_config(["config/viquae.yaml"], ROOT)


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory):
    """The output of a dry run of the published grid in a fresh clone."""
    folder = tmp_path_factory.mktemp("clone")
    copy_repository(folder)
    output = call(folder, "snakemake -n results/table.tex --configfile config/viquae.yaml")
    assert not (folder / "results").exists(), "a dry run makes nothing"
    return output


def test_the_dry_run_goes_from_downloads_to_the_table(config, dry_run):
    experiments, every = grid(config), trained(config)
    assert {"clipt5-mt_adapter_vqa_avg", "clipt5-mt_zs_vqa_avg"} <= {experiment.name for experiment in every}
    counts = jobs(dry_run)
    searched = [experiment for experiment in experiments if experiment.model != "bm25"]
    assert counts["embed_questions"] == counts["search"] == len(searched)
    assert counts["embed"] == config.embedding.shards * len(searched)
    assert counts["train"] + counts["pretrain"] == len(every) - 1
    assert counts["metrics"] == len(rows(config)) == len(experiments) + 4 + 2
    assert (counts["entities"], counts["lexical_tune"], counts["by_hand"]) == (2, 1, len(BY_HAND))
    for experiment in experiments:
        assert f"results/viquae/metrics/{experiment.name}.json" in dry_run


def test_every_file_of_the_dry_run_is_made_by_a_job_of_it(dry_run):
    """Every input is made by some job; files that the user must fetch have a `by_hand` job and are documented."""
    files = {"input": set(), "output": set()}
    for kind, listed in re.findall(r"^    (input|output): (.*)$", dry_run, flags=re.MULTILINE):
        files[kind] |= set(listed.split(", "))
    settings = {path for path in files["input"] if path.startswith(".snakemake/settings/")}
    assert settings
    assert files["input"] - settings <= files["output"]
    assert all(path.startswith("results/") for path in files["output"])
    by_hand = {path.removeprefix("results/by-hand/") for path in files["output"] if "/by-hand/" in path}
    assert by_hand == BY_HAND
    documented = (ROOT / "docs" / "experiments.md").read_text()
    assert all(re.search(f"`{re.escape(path)}/?`", documented) for path in by_hand)


def test_both_trainings_of_a_pre_trained_model_are_shown(config, dry_run):
    shown = re.findall(r"^rule (train|pretrain):\n    input: (.*)\n    output: (.*)$", dry_run, flags=re.MULTILINE)
    inputs = {made: files.split(", ") for _, files, made in shown}
    before = "results/pretraining/checkpoints/clipt5-mt_zs_vqa_avg"
    assert before in inputs["results/viquae/checkpoints/clipt5-mt_adapter_vqa_avg"]
    assert {
        "results/triviaqa/negatives/bm25/train.parquet",
        "results/wikimage/features/clip-rn101/questions",
        "results/multimedia/data/passages",
    } <= set(inputs[before])
    assert not any("triviaqa/features" in path for files in inputs.values() for path in files)
    pre_trained = {
        e.name for e in trained(config) if e.tuning == "zs" and getattr(config.models[e.model], "pretraining", None)
    }
    outputs = {made for rule, _, made in shown if rule == "pretrain"}
    assert outputs == {f"results/pretraining/checkpoints/{name}" for name in pre_trained}


def test_the_documentation_has_every_experiment(config):
    documented = (ROOT / "docs" / "experiments.md").read_text()
    missing = [name for name in [e.name for e in grid(config)] + [*config.fusions] if f"`{name}`" not in documented]
    assert not missing


def test_files_that_the_user_must_fetch_are_requested_first(tmp_path):
    copy_repository(tmp_path)
    output = call(tmp_path, "snakemake --cores 1 results/table.tex --configfile config/viquae.yaml", fails=True)
    assert all(f"{name}: does not exist, and nothing fetches it" in output.splitlines()[-1] for name in BY_HAND)
    assert not list((tmp_path / "results").rglob("*.log")), "no job ran"


def run_miniature(folder, whole):
    """Make the table of a miniature in `folder`: its rows, and the number of jobs of each rule."""
    copy_repository(folder)
    (folder / "config" / "miniature.yaml").write_text(yaml.safe_dump(miniature(folder, whole), sort_keys=False))
    counts = jobs(call(folder, "snakemake --cores 2 results/table.tex --configfile config/miniature.yaml"))
    assert not {"by_hand", "repository"} & counts.keys(), "every input exists or is made"
    again = call(folder, "snakemake -n results/table.tex --configfile config/miniature.yaml")
    assert "Nothing to be done" in again
    return [line.split(",")[1] for line in (folder / "results" / "table.csv").read_text().splitlines()[1:]], counts


def test_rows_of_the_published_grid_run_on_a_miniature(tmp_path):
    names, counts = run_miniature(tmp_path, whole=False)
    assert (counts["train"], counts["pretrain"]) == (len(GRID) - 1, 2), "all but BM25, and two pre-trainings"
    assert names == [*GRID, "dpr-clip"]
    assert (tmp_path / "results/viquae/lexical/tuning.json").exists()
    assert not (tmp_path / "results/triviaqa/lexical/tuning.json").exists()


@pytest.mark.whole
def test_the_whole_published_grid_runs_on_a_miniature(config, tmp_path):
    names, counts = run_miniature(tmp_path, whole=True)
    assert names == [row.name for row in rows(config)]
    assert counts["train"] + counts["pretrain"] == len(trained(config)) - 1, "all but BM25"


def test_questions_by_id_and_published_passages_become_datasets(tmp_path):
    """KILT's TriviaQA, with the words of TriviaQA's questions, and published passages."""
    copy_repository(tmp_path)
    root = tmp_path / "published"
    published.kilt_tasks(root, {"train": 8, "validation": 8, "test": 4}, 20)
    published.kilt_wikipedia(root / "wikipedia.jsonl", 20)
    titles = [published.entity(0, row).title for row in range(20)]
    texts = [" ".join(published.entity(0, row).facts()) for row in range(20)]
    cut = [{"passage": f"{titles[row]} [SEP] {text}", "index": row} for row, text in enumerate(texts)]
    (root / "passages.jsonl").write_text("".join(f"{json.dumps(passage)}\n" for passage in cut))
    here = {"path": "published"}
    files = {"train": "triviaqa-train-kilt.jsonl", "validation": "triviaqa-validation-kilt.jsonl"}
    words = {split: f"unfiltered-{split}.jsonl" for split in ("train", "validation", "test")}
    source = {"questions": here | {"files": files | {"test": "triviaqa-test-kilt.jsonl"}}, "wikipedia": here}
    source |= {"trivia": here | {"files": words}, "passages": here}
    config = {"datasets": {"kilt": {"source": source, "relevance": {"link": "provenance", "titles": ""}}}}
    (tmp_path / "config" / "kilt.yaml").write_text(yaml.safe_dump(config))
    call(tmp_path, "snakemake --cores 2 results/kilt/data/qrels.json --configfile config/viquae.yaml config/kilt.yaml")
    data = tmp_path / "results" / "kilt" / "data"
    assert load_from_disk(str(data / "passages"))["text"][:] == texts
    questions = load_from_disk(str(data / "questions"))["train"]
    assert len(questions) == 8
    assert questions["original_question"] == questions["input"]
    assert set(questions["image"]) == {None}
