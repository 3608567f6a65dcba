"""Training on several GPUs and nodes of a real Slurm: what it is given, and that it learns what one process does."""

import pytest
import yaml
from slurm_run import ADAPTER, CHECKPOINTS

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.mark.parametrize(("how", "nodes"), [({"gpus": 2}, ["g1"]), ({"nodes": 2}, ["g[1-2]"])])
def test_several_gpus_and_nodes_give_the_curve_of_one_process(untrained, finished, how, nodes):
    path = untrained.folder / "config" / "viquae.yaml"
    config = yaml.safe_load(path.read_text())
    config["training"]["experiments"] = {ADAPTER: how}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    untrained.begin(f"snakemake --profile slurm {CHECKPOINTS}/{ADAPTER}")
    untrained.end()
    (job,) = untrained.jobs("train")
    assert job["Partition"] == "gpu"
    assert "gres/gpu=2" in job["AllocTRES"]
    assert [job["NodeList"]] == nodes
    if "gpus" in how:
        assert untrained.trace("train")[0].gpus == "0,1"
    curve, alone = untrained.curve(), finished.curve()
    assert curve.keys() == alone.keys()
    assert list(curve.values()) == pytest.approx(list(alone.values()), abs=2e-3)
