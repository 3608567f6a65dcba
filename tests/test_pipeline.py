"""The workflow as users run it: real Snakemake on a cut-down sample, in a copy of this repository."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from vlret.config import load_config
from vlret.experiment import rows
from vlret.files import KEPT, read_json
from vlret.layout import Layout
from vlret.made import NOTE, made_by
from vlret.negatives.mine import MINERS, read
from vlret.runs import read_qrels, read_run

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

ROOT = Path(__file__).parents[1]
TABLE = "results/table.tex"
ADAPTER = "vlminilm_adapter_none_avg"
PROMPT = "vlminilm_prompt_vqa_1token"
METRICS = f"results/sample/metrics/{ADAPTER}.json"


def copy_repository(target):
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    config = yaml.safe_load((ROOT / "tests" / "cut-down.yaml").read_text())
    write_config(target, {**config, "dataset": "sample", "datasets": {"sample": config["datasets"]["cut-down"]}})


def write_config(folder, config):
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def read_config(folder):
    return yaml.safe_load((folder / "config" / "config.yaml").read_text())


def environment():
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def call(folder, command, fails=False):
    """Run a command line in the repository and return its output, standard error included."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert (done.returncode != 0) == fails, done.stdout[-5000:]
    return done.stdout


def digests(folder):
    """SHA-256 by path of every result, its note and its settings, without logs, benchmarks and locks."""
    aside = {"logs", "benchmarks", "downloads"}
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files(folder)
        if not aside & {*path.relative_to(folder).parts} and (path.name[0] != "." or path.name.endswith(f".{NOTE}"))
    }


def files(folder):
    """The files of `results/`, with folders of `kept/` under their links."""
    for parent, folders, names in os.walk(folder / "results", followlinks=True):
        folders[:] = [name for name in folders if name[0] != "." and name != KEPT]
        yield from (Path(parent, name) for name in names)


def remove(path):
    """Remove a result and the target of its link."""
    for place in {path.resolve(), path}:
        if place.is_symlink() or not place.is_dir():
            place.unlink(missing_ok=True)
        else:
            shutil.rmtree(place)


def config_of(folder):
    return load_config(["config/config.yaml"], folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A repository in which `snakemake --cores 2 results/table.tex` was run."""
    folder = tmp_path_factory.mktemp("finished")
    copy_repository(folder)
    call(folder, f"snakemake --cores 2 {TABLE}")
    return folder


@pytest.fixture
def repository(finished, tmp_path):
    """A modifiable copy of `finished`; what no test changes is linked."""
    folder, downloads = tmp_path / "repository", Path("results") / "downloads"
    aside = shutil.ignore_patterns("downloads")
    shutil.copytree(finished, folder, symlinks=True, ignore=aside)
    subprocess.run(["cp", "--archive", "--link", finished / downloads, folder / downloads], check=True)
    return folder


def jobs(output):
    """Rules and counts of a dry run's `Job stats`, without the total."""
    lines = iter(output.splitlines())
    for line in lines:
        if line.startswith("Job stats:"):
            break
    next(lines), next(lines)
    counts = {}
    for line in lines:
        if not line.strip() or line.startswith("total"):
            break
        rule, count = line.split()
        counts[rule] = int(count)
    return counts


def states(folder):
    """The state of each row in `vlret grid`."""
    head, *lines, _ = call(folder, "vlret grid").splitlines()
    return {line.split()[0]: line[head.index("state") :] for line in lines}


def test_the_table_has_every_row(finished):
    names = [row.name for row in rows(config_of(finished))]
    assert names[5:] == ["bm25-effnet", "bm25-effnet-rrf", f"{ADAPTER}.no-text", f"{ADAPTER}.no-image"]
    csv = (finished / "results" / "table.csv").read_text()
    assert [line.split(",")[1] for line in csv.splitlines()[1:]] == names
    for suffix in ("tex", "md", "html", "pvalues.csv"):
        assert (finished / f"results/table.{suffix}").stat().st_size > 500


def test_the_note_of_every_result_matches_the_config(finished, monkeypatch):
    monkeypatch.chdir(finished)
    layout = Layout(config_of(finished), Path())
    waiting, seen = [layout.made("table")], set()
    while waiting:
        file = waiting.pop()
        if file.rule and file not in seen:
            seen.add(file)
            waiting += [each for some in layout.job(file.rule, file.wildcards).files().values() for each in some]
            if file.rule != "features":  # shards, which are removed once they are gathered
                assert made_by(Path(file)) == layout.digest(file), file
    assert {str(layout.metrics(row.name)) for row in rows(layout.config)} < seen
    notes = {read_json(path)["digest"] for path in files(Path()) if path.name.endswith(NOTE)}
    assert notes == {layout.digest(file) for file in seen if file.rule != "features"}, "and no other result is there"


def test_a_second_run_does_nothing(finished):
    assert "Nothing to be done" in call(finished, f"snakemake --cores 2 {TABLE}")


def test_the_dry_run_shows_the_whole_grid(tmp_path):
    copy_repository(tmp_path)
    output = call(tmp_path, f"snakemake -n {TABLE}")
    for row in rows(config_of(tmp_path)):
        assert f"results/sample/metrics/{row.name}.json" in output
    counts = jobs(output)
    assert counts["train"] == counts["embed"] == counts["embed_questions"] == counts["search"] == 4
    assert "index" not in counts
    assert counts["table"] == counts["join"] == 1
    assert counts["fuse"] == 2
    assert counts["ablate"] == counts["search_ablation"] == counts["search_mined"] == 2
    assert not (tmp_path / "results").exists()


def test_rerunning_one_experiment_touches_no_other(repository):
    before = {path: path.stat().st_mtime_ns for path in files(repository)}
    digest = digests(repository)
    output = call(repository, f"snakemake --cores 2 {METRICS} --forcerun train")
    assert jobs(output) == {"train": 1, "embed": 1, "embed_questions": 1, "search": 1, "metrics": 1}
    changed = {
        str(path.relative_to(repository)) for path in files(repository) if path.stat().st_mtime_ns != before.get(path)
    }
    assert all(ADAPTER in path for path in changed), changed
    assert METRICS in changed
    assert digests(repository) == digest, "the same seed gives the same bytes"


def test_an_edited_parameter_runs_only_its_experiment_and_the_table(repository):
    config = read_config(repository)
    config["training"]["experiments"] = {PROMPT: {"steps": 3}}
    write_config(repository, config)
    before = digests(repository)
    assert states(repository)[PROMPT] == "stale"
    output = call(repository, f"snakemake --cores 2 {TABLE}")
    assert jobs(output) == {"train": 1, "embed": 1, "embed_questions": 1, "search": 1, "metrics": 1, "table": 1}
    after = digests(repository)
    changed = {path for path in after if after[path] != before.get(path)}
    shared = ("results/table.", "results/.table.", "results/settings/train/", "results/settings/table/")
    assert all(PROMPT in path or path.startswith(shared) for path in changed), changed
    assert f"results/sample/metrics/{PROMPT}.json" in changed


def test_dynamic_judgements_are_pooled_over_every_row(repository):
    config = read_config(repository)
    config["evaluation"]["qrels"] = "dynamic"
    write_config(repository, config)
    output = call(repository, f"snakemake --cores 2 {TABLE}")
    names = [line.split(",")[1] for line in (repository / "results" / "table.csv").read_text().splitlines()[1:]]
    assert jobs(output) == {"pool": 1, "metrics_dynamic": len(names), "table": 1}
    sample = repository / "results" / "sample"
    measured = [read_json(sample / "dynamic" / "table" / "metrics" / f"{name}.json") for name in names]
    assert len({each["splits"]["test"]["qrels_sha256"] for each in measured}) == 1
    dynamic, static = (read_qrels(sample / folder / "qrels" / "test.trec") for folder in ("dynamic/table", "data"))
    assert dynamic.keys() == static.keys()
    runs = [read_run(sample / "runs" / f"{name}.trec") for name in names]
    for question, relevant in static.items():
        retrieved = {passage for run in runs if question in run for passage in run[question].passages.tolist()}
        assert relevant & retrieved <= dynamic[question] <= retrieved
    assert any(dynamic[question] - static[question] for question in static), "other articles contain answers too"
    assert "pooled over all of them" in (repository / "results" / "table.md").read_text()


def test_every_miner_finds_something(finished):
    folder = finished / "results" / "sample" / "negatives"
    mined = {path: [len(rows) for rows in read(path).values()] for path in folder.glob("*/*.parquet")}
    kinds = {path.parent.name.partition(".")[0] for path in mined}
    assert kinds == set(MINERS)
    assert all(sum(counts) > 0 for counts in mined.values()), mined


def test_the_grid_shows_what_is_done(repository):
    assert set(states(repository).values()) == {"done"}
    (repository / METRICS).unlink()
    after = states(repository)
    assert after.pop(ADAPTER) == "to run"
    assert set(after.values()) == {"done"}
    assert "9 rows: 8 done, 1 to run, 0 stale" in call(repository, "vlret grid")
    remove(repository / f"results/sample/embeddings/passages/{ADAPTER}")
    after = states(repository)
    assert after.pop(ADAPTER) == "to run"
    assert "to run" not in after.values()


def test_repeated_kills_do_not_change_the_table(repository):
    expected = digests(repository)
    for name in (ADAPTER, "effnet_zs_none_concat", "vlminilm_zs_none_avg"):
        for place in ("*", "embeddings/*"):
            for path in (repository / "results" / "sample").glob(f"{place}/{name}*"):
                remove(path)
    (repository / TABLE).unlink()
    command = ["bash", "workflow/run.sh", "--cores", "2", "--", TABLE]
    for seconds, everything in ((6, False), (12, True), (8, False)):
        run = subprocess.Popen(
            command, cwd=repository, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL
        )
        time.sleep(seconds)
        assert run.poll() is None, "it ended before it was killed: kill earlier"
        # Kill only the workflow, whose jobs then outlive it, or both.
        os.killpg(run.pid, signal.SIGKILL) if everything else run.kill()
        run.wait()
    call(repository, " ".join(command))
    after = digests(repository)
    assert after == expected
    assert not list((repository / "results").rglob("*.partial"))


def test_an_approximate_search_makes_an_index(repository):
    config = read_config(repository)
    config["retrieval"] |= {"index": "IVF8,SQ8", "parameters": "nprobe=4"}
    write_config(repository, config)
    runs = [f"results/sample/runs/{name}" for name in (ADAPTER, f"{ADAPTER}.no-text")]
    output = call(repository, f"snakemake --cores 2 {runs[0]}.trec {runs[1]}.trec")
    assert jobs(output) == {"index": 1, "search": 1, "search_ablation": 1}
    for run in runs:
        report = json.loads((repository / f"{run}.json").read_text())
        assert not report["exact"]
        assert 0.3 < report["recall@100"] <= 1


def test_two_runs_at_once_are_refused(repository):
    (repository / TABLE).unlink()
    first = subprocess.Popen(["bash", "workflow/run.sh", "--cores", "1", TABLE], cwd=repository, env=environment())
    time.sleep(1)
    assert "another run is active" in call(repository, f"bash workflow/run.sh --cores 1 {TABLE}", fails=True)
    assert first.wait() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seedd": 1}, "config/config.yaml: top level: unknown key 'seedd'"),
        ({"dataset": 3}, "config/config.yaml: dataset: 3 is not of type 'string'"),
    ],
)
def test_a_wrong_config_stops_before_anything_runs(tmp_path, change, message):
    copy_repository(tmp_path)
    write_config(tmp_path, {**read_config(tmp_path), **change})
    output = call(tmp_path, f"snakemake --cores 2 {TABLE}", fails=True)
    assert message in output
    assert "Traceback" not in output
    assert f"vlret: error: {message}" in call(tmp_path, "vlret grid", fails=True)
    assert not (tmp_path / "results").exists()


def test_an_unknown_combination_is_refused_by_name(repository):
    output = call(repository, "snakemake -n results/sample/metrics/vlminilm_full_none_avg.json", fails=True)
    assert "vlminilm_full_none_avg: not an experiment of this config's grid" in output


def test_a_questions_missing_image_stops_the_run_and_names_it(repository):
    image = next((repository / "results/sample/raw/images").glob("photo-*.jpg"))
    image.unlink()
    target = "results/sample/features/effnet/questions"
    remove(repository / target)
    output = call(repository, f"snakemake --cores 2 {target}", fails=True)
    assert f"vlret: error: results/sample/raw/images/{image.name}" in output
    assert not (repository / target).exists()
