"""The same on a GPU as on the CPU; skipped where there is none."""

import numpy as np
import pytest
import torch
from toy import Toy

from vlret.training.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return Toy(tmp_path_factory.mktemp("toy"))


def trained(toy, precision):
    settings = toy.settings("full")
    settings["training"]["precision"] = precision
    out = toy.folder / "checkpoints" / precision
    train(settings=settings, **toy.training, out=out)
    return out


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_learns_in_every_precision(toy, precision):
    after = toy.embedded("full", trained(toy, precision), batch_size=8)
    assert toy.mean_rank(*after) < 0.5 * toy.mean_rank(*toy.embedded("zs"))


def test_vectors_equal_those_of_the_cpu(toy, monkeypatch):
    checkpoint = trained(toy, "fp32")
    on_gpu = toy.embedded("full", checkpoint, batch_size=5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu = toy.embedded("full", checkpoint, batch_size=6)
    for one, other in zip(on_gpu, on_cpu, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
