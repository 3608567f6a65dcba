"""Training on several GPUs and nodes of a real Slurm: its allocation, and the same losses as one process."""

import pytest
from slurm_run import ADAPTER, CHECKPOINTS, without_training
from test_pipeline import read_config, write_config

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

CHECKPOINT = f"{CHECKPOINTS}/{ADAPTER}"


def configure(folder, **how):
    """Set a short training with the options `how`."""
    config = read_config(folder)
    config["training"]["experiments"] = {ADAPTER: {"steps": 12, **how}}
    write_config(folder, config)


@pytest.fixture(scope="module")
def single(finished, tmp_path_factory):
    """The losses of one process, by step."""
    repository = without_training(finished, tmp_path_factory.mktemp("single") / "repository")
    configure(repository.folder)
    repository.begin(f"snakemake --cores 2 {CHECKPOINT}")
    repository.end()
    return repository.curve()


@pytest.mark.parametrize(("how", "nodes"), [({"gpus": 2}, ["g1"]), ({"nodes": 2}, ["g[1-2]"])])
def test_several_gpus_and_nodes_give_the_losses_of_one_process(untrained, single, how, nodes):
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
    assert curve.keys() == single.keys()
    assert list(curve.values()) == pytest.approx(list(single.values()), abs=2e-3)
