import math
import re

import pytest
import torch
from parity import arrays, cases

from vlret.settings import Loss
from vlret.training.losses import IGNORED, Objective, dpr_loss, nll, scores_of, symmetric_nll
from vlret.training.validate import ranks

LOSSES = cases("cvlp", "losses_pooling_metrics*")


def tensors(case):
    return {name: torch.as_tensor(array) for name, array in arrays(case).items()}


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4, check_dtype=False)


def loop(questions, passages, labels, scale, excluded):
    """Reference: a softmax over the passages that are not excluded, one question at a time."""
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


def test_without_exclusions_all_other_passages_are_irrelevant(batch):
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


@pytest.mark.parity
@pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.stem)
def test_the_loss_and_the_ranks_equal_the_originals(case):
    stored = tensors(case)
    names = sorted({name.split(".")[0] for name in stored if re.fullmatch(r"dpr\d+\.q", name)})
    assert names
    for name in names:
        questions, passages, labels = (stored[f"{name}.{part}"] for part in ("q", "c", "labels"))
        close(dpr_loss(questions, passages, labels), stored[f"{name}.loss"])
        log_probabilities = torch.log_softmax(scores_of(questions, passages), dim=1)
        close(log_probabilities, stored[f"{name}.log_probs"])
        ranked_as_stored(log_probabilities, labels, stored, name)
    ranked_as_stored(stored["retrieval.log_probs"], stored["retrieval.labels"], stored, "retrieval")


def ranked_as_stored(scores, labels, stored, name):
    kept = labels != IGNORED
    places = ranks(scores[kept], labels[kept]).double()
    close((1 / places).mean(), stored[f"{name}.mrr"])
    close((places == 1).double().mean(), stored[f"{name}.hits1"])


@pytest.mark.parity
@pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.stem)
def test_the_symmetric_loss_equals_the_originals(case):
    stored = tensors(case)
    names = sorted({name.split(".")[0] for name in stored if re.fullmatch(r"clip\d+\.similarity", name)})
    assert names
    for name in names:
        scores = stored[f"{name}.similarity"]
        labels = torch.arange(len(scores))
        close(symmetric_nll(scores, labels), stored[f"{name}.loss"])
        close(nll(scores, labels), stored[f"{name}.rows"])
        close(nll(scores.T, labels), stored[f"{name}.cols"])


def test_clip_and_cosine_ignore_lengths_and_clip_is_symmetric(batch):
    questions, passages = batch
    labels, excluded = torch.arange(4), torch.zeros(4, 7, dtype=torch.bool)
    unit = [part / part.norm(dim=1, keepdim=True) for part in batch]
    rows = dpr_loss(*unit, labels, 20.0)
    columns = dpr_loss(unit[1][:4], unit[0], labels, 20.0)
    settings = {"temperature": 0.05, "learned": False}
    for name, expected in (("cosine", rows), ("clip", (rows + columns) / 2)):
        objective = Objective(Loss(name=name, **settings)).double()
        objective.log_scale.data.fill_(math.log(20))
        assert objective(3 * questions, passages, labels, excluded).item() == pytest.approx(expected.item(), rel=1e-6)


def test_an_ignored_question_is_ignored_in_both_directions(batch):
    questions, passages = batch
    scores = questions @ passages.T
    labels = torch.tensor([0, IGNORED, 2, 3])
    columns = torch.log_softmax(scores.T[[0, 2, 3]], dim=1)[[0, 1, 2], [0, 2, 3]]
    rows = torch.log_softmax(scores[[0, 2, 3]], dim=1)[[0, 1, 2], [0, 2, 3]]
    close(symmetric_nll(scores, labels), -(columns.mean() + rows.mean()) / 2)


def test_a_learned_temperature_gets_a_gradient_and_stays_above_001(batch):
    labels, excluded = torch.arange(4), torch.zeros(4, 7, dtype=torch.bool)
    learned = Objective(Loss(name="clip", temperature=0.009))
    fixed = Objective(Loss(name="clip", temperature=0.009, learned=False))
    learned(*batch, labels, excluded).backward()
    assert learned.log_scale.grad.abs() > 0
    assert not fixed.log_scale.requires_grad
    learned.clamp(), fixed.clamp()
    assert learned.log_scale.exp().item() == pytest.approx(100)
    assert fixed.log_scale.exp().item() == pytest.approx(1 / 0.009)


def test_ties_rank_before_the_label():
    assert ranks(torch.tensor([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0]]), torch.tensor([0, 1])).tolist() == [2, 2]
