"""Training on several GPUs and nodes of a real Slurm: what it is given, and that it learns what one process does."""

import pytest
from slurm_run import ADAPTER, CHECKPOINTS, without_training
from test_pipeline import read_config, write_config

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

CHECKPOINT = f"{CHECKPOINTS}/{ADAPTER}"


def configure(folder, **how):
    """Train for some steps, as `how` says."""
    config = read_config(folder)
    config["training"]["experiments"] = {ADAPTER: {"steps": 12, **how}}
    write_config(folder, config)


@pytest.fixture(scope="module")
def alone(finished, tmp_path_factory):
    """The losses of one process, by step."""
    repository = without_training(finished, tmp_path_factory.mktemp("alone") / "repository")
    configure(repository.folder)
    repository.begin(f"snakemake --cores 2 {CHECKPOINT}")
    repository.end()
    return repository.curve()


@pytest.mark.parametrize(("how", "nodes"), [({"gpus": 2}, ["g1"]), ({"nodes": 2}, ["g[1-2]"])])
def test_several_gpus_and_nodes_give_the_curve_of_one_process(untrained, alone, how, nodes):
    configure(untrained.folder, **how)
    untrained.begin(f"snakemake --profile slurm --configfile config/config.yaml -- {CHECKPOINT}")
    untrained.end()
    (job,) = untrained.jobs("train")
    assert job["Partition"] == "gpu"
    assert "gres/gpu=2" in job["AllocTRES"]
    assert [job["NodeList"]] == nodes
    if "gpus" in how:
        assert untrained.trace("train")[0].gpus == "0,1"
    curve = untrained.curve()
    assert curve.keys() == alone.keys()
    assert list(curve.values()) == pytest.approx(list(alone.values()), abs=2e-3)
