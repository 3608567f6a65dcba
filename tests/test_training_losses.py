import math

import pytest
import torch

from vlret.training.losses import IGNORED, dpr_loss


def loop(questions, passages, labels, scale, excluded):
    """The objective written out: softmax over the passages that are not excluded, one question at a time."""
    losses = []
    for q, question in enumerate(questions.tolist()):
        if labels[q] == IGNORED:
            continue
        scores = [scale * sum(a * b for a, b in zip(question, p, strict=True)) for p in passages.tolist()]
        kept = [score for row, score in enumerate(scores) if not excluded[q][row]]
        largest = max(kept)
        log_sum = largest + math.log(sum(math.exp(score - largest) for score in kept))
        losses.append(log_sum - scores[labels[q]])
    return sum(losses) / len(losses)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 6, generator=generator).double(), torch.randn(7, 6, generator=generator).double()


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_equals_a_loop(batch, scale):
    labels = torch.tensor([0, 1, IGNORED, 3])
    excluded = torch.zeros(4, 7, dtype=torch.bool)
    excluded[0, 5] = excluded[3, 2] = excluded[3, 6] = True
    expected = loop(*batch, labels.tolist(), scale, excluded.tolist())
    assert dpr_loss(*batch, labels, scale, excluded).item() == pytest.approx(expected, rel=1e-12)


def test_without_exclusions_every_other_passage_is_irrelevant(batch):
    labels = torch.arange(4)
    expected = loop(*batch, labels.tolist(), 1.0, [[False] * 7] * 4)
    assert dpr_loss(*batch, labels).item() == pytest.approx(expected, rel=1e-12)


def test_an_excluded_passage_gets_no_gradient(batch):
    questions, passages = batch
    passages.requires_grad_()
    excluded = torch.zeros(4, 7, dtype=torch.bool)
    excluded[:, 6] = True
    dpr_loss(questions, passages, torch.arange(4), 1.0, excluded).backward()
    assert torch.isfinite(passages.grad).all()
    assert passages.grad[6].abs().max() == 0
    assert passages.grad[5].abs().max() > 0
