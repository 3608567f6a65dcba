"""`snakemake --profile slurm results/table.tex` on a real Slurm: what runs where, and that the table is the same."""

import re
import shutil

import pytest
from slurm_run import ADAPTER, TABLE, Repository, tiny
from test_pipeline import call, digests, jobs

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

GPU = {"features extract", "training train", "retrieval embed", "retrieval embed-questions"}
LOCAL = {"features gather", "lexical join", "evaluation table"}


@pytest.fixture(scope="module")
def ran(cluster, finished, tmp_path_factory):
    """A repository in which only the downloads and this command were run."""
    folder = tmp_path_factory.mktemp("ran") / "repository"
    folder.mkdir()
    tiny(folder)
    (folder / "results").mkdir()
    shutil.copytree(finished.folder / "results" / "downloads", folder / "results" / "downloads")
    repository = Repository(folder)
    repository.begin(f"snakemake --profile slurm {TABLE}")
    repository.end()
    return repository


def test_the_results_equal_those_without_a_cluster(ran, finished):
    assert digests(ran.folder) == digests(finished.folder)


def test_gpu_rules_get_one_and_light_rules_run_locally(ran):
    jobs = {job["JobIDRaw"]: job for job in ran.jobs()}
    starts = ran.trace()
    assert {start.verb for start in starts} >= GPU | LOCAL
    for start in starts:
        if start.verb in LOCAL:
            assert (start.job, start.node) == ("", ""), start
            continue
        gpu = start.verb in GPU
        assert jobs[start.job]["Partition"] == ("gpu" if gpu else "cpu"), start
        assert re.fullmatch("[01]" if gpu else "", start.gpus), start
        assert start.node[0] == ("g" if gpu else "c"), start
        assert ("gres/gpu=1" in jobs[start.job]["AllocTRES"]) == gpu, start


def test_small_jobs_of_one_stage_share_an_allocation(ran):
    mined = ran.trace("mine")
    assert len(mined) > 1
    assert len({start.job for start in mined}) == 1
    assert len(ran.jobs("negatives")) == 1


def test_every_job_ran_once(ran):
    assert {job["State"] for job in ran.jobs()} == {"COMPLETED"}
    commands = [start.arguments for start in ran.trace()]
    assert len(commands) == len(set(commands))


def test_a_second_run_does_nothing(ran):
    assert "Nothing to be done" in ran.type(f"snakemake --profile slurm {TABLE}")


def test_the_dry_run_shows_each_jobs_resources(untrained):
    output = untrained.type(f"snakemake --profile slurm -n {TABLE}")
    train = output.partition("rule train:")[2].partition("resources:")[2].partition("\n")[0]
    for request in ("slurm_partition=gpu", "gres=gpu:1", "mem_mb=16000", "runtime=240", "slurm_account=project"):
        assert request in train
    assert "--signal=USR1@120" in train


def test_a_config_on_the_command_line_replaces_the_profiles(untrained):
    viquae = untrained.folder / "config" / "viquae.yaml"
    own = untrained.folder / "own.yaml"
    own.write_text(viquae.read_text().replace(f"- {ADAPTER}", "- vlminilm_lora_none_avg"))
    assert ADAPTER in untrained.type(f"snakemake --profile slurm -n {TABLE}")
    output = untrained.type(f"snakemake --profile slurm --configfile own.yaml -n {TABLE}")
    assert ADAPTER not in output
    assert jobs(output)["train"] == 1
    viquae.unlink()
    assert "config/viquae.yaml" in call(untrained.folder, f"snakemake --profile slurm -n {TABLE}", fails=True)
