"""Results on a GPU equal those on the CPU; skipped without one."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from shards import units_of
from test_training_gradcache import peak
from test_training_train import interrupted_at
from toy import Toy

from vlret.retrieval import exact
from vlret.training.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return Toy(tmp_path_factory.mktemp("toy"))


def trained(toy, precision):
    settings = toy.settings("full", precision=precision)
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


def test_training_resumes_with_the_loss_scale(toy):
    """A resumed training is as close to an uninterrupted one as two uninterrupted ones are to each other."""
    settings = toy.settings("full", precision="fp16", chunk=3)
    whole, out = (toy.folder / "checkpoints" / name for name in ("whole", "stopped"))
    train(settings=settings, **toy.training, out=whole)
    with pytest.raises(SystemExit), interrupted_at(30):
        train(settings=settings, **toy.training, out=out)
    train(settings=settings, **toy.training, out=out)
    one, other = (load_file(path / "model.safetensors") for path in (whole, out))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=1e-2, rtol=1e-2)


def test_chunks_save_memory_for_a_batch_of_1024():
    def memory(questions, chunk=None):
        torch.cuda.reset_peak_memory_stats()
        peak(questions, chunk)
        return torch.cuda.max_memory_allocated()

    assert memory(1024, 16) < 0.2 * memory(1024)


def test_exact_search_equals_that_of_the_cpu(monkeypatch):
    vectors = np.random.default_rng(0).standard_normal((9000, 64)).astype(np.float16)
    questions = np.random.default_rng(1).standard_normal((40, 64)).astype(np.float32)
    vectors[[3, 5000]] = vectors[77]
    units = units_of(vectors)
    on_gpu = exact.search(units, questions, 50)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for one, other in zip(on_gpu, exact.search(units, questions, 50), strict=True):
        assert one.passages.tolist() == other.passages.tolist()
        assert one.scores.tolist() == other.scores.tolist()
