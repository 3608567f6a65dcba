"""Contrastive objectives."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlret.settings import Loss

IGNORED = -100
LARGEST_LOG_SCALE = math.log(100)


def scores_of(
    questions: Tensor, passages: Tensor, scale: Tensor | float = 1.0, excluded: Tensor | None = None
) -> Tensor:
    """Scaled inner products `[questions, passages]`, minus infinity where `excluded`.

    Parameters
    ----------
    questions
        `[questions, dim]`.
    passages
        `[passages, dim]`.
    scale
        The inverse temperature; 1 in DPR.
    excluded
        `[questions, passages]`: True where a passage is relevant to the question but not its label. It is ignored,
        while DPR would count it as irrelevant.
    """
    scores = scale * questions @ passages.T
    return scores if excluded is None else scores.masked_fill(excluded, -torch.inf)


def nll(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of each row's label among the columns.

    Parameters
    ----------
    scores
        `[questions, passages]`.
    labels
        `[questions]`: the column of each question's relevant passage; questions with label -100 are ignored.

    Source: Karpukhin et al. 2020, "Dense Passage Retrieval", section 3.2.
    """
    return F.nll_loss(F.log_softmax(scores, dim=1), labels, ignore_index=IGNORED)


def symmetric_nll(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean of `nll` in both directions; the second finds each relevant passage's question among all questions.

    Hard negatives, which are no question's label, enter only the first direction.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", figure 3.
    """
    rows = torch.arange(len(labels), device=labels.device)
    kept = labels != IGNORED
    columns = scores[:, labels.clamp(min=0)].T
    return (nll(scores, labels) + nll(columns, torch.where(kept, rows, IGNORED))) / 2


def dpr_loss(
    questions: Tensor, passages: Tensor, labels: Tensor, scale: Tensor | float = 1.0, excluded: Tensor | None = None
) -> Tensor:
    """`nll` of inner products: parameters as for `scores_of` and `nll`."""
    return nll(scores_of(questions, passages, scale, excluded), labels)


def clip_loss(
    questions: Tensor, passages: Tensor, labels: Tensor, scale: Tensor | float = 1.0, excluded: Tensor | None = None
) -> Tensor:
    """`symmetric_nll` of cosines: parameters as for `scores_of` and `nll`."""
    scores = scores_of(F.normalize(questions, dim=1), F.normalize(passages, dim=1), scale, excluded)
    return symmetric_nll(scores, labels)


def cosine_loss(
    questions: Tensor, passages: Tensor, labels: Tensor, scale: Tensor | float = 1.0, excluded: Tensor | None = None
) -> Tensor:
    """`nll` of cosines: parameters as for `scores_of` and `nll`."""
    return dpr_loss(F.normalize(questions, dim=1), F.normalize(passages, dim=1), labels, scale, excluded)


LOSSES = {"dpr": dpr_loss, "clip": clip_loss, "cosine": cosine_loss}


def chance(settings: Loss, questions: int, passages: int) -> float:
    """The loss of a batch in which all scores are equal: what a model that learned nothing gets."""
    rows = math.log(passages)
    return (rows + math.log(questions)) / 2 if settings.name == "clip" else rows


class Objective(nn.Module):
    """A loss with its temperature, fixed or learned (as the logarithm of its inverse, as in CLIP)."""

    def __init__(self, settings: Loss):
        super().__init__()
        self.loss = LOSSES[settings.name]
        start = torch.tensor(-math.log(settings.temperature), dtype=torch.float32)
        self.log_scale = nn.Parameter(start, requires_grad=settings.learned)

    def forward(self, questions: Tensor, passages: Tensor, labels: Tensor, excluded: Tensor) -> Tensor:
        """`[questions, dim]`, `[passages, dim]`, `[questions]`, `[questions, passages]` to a scalar."""
        return self.loss(questions, passages, labels, self.log_scale.exp(), excluded)

    @torch.no_grad()
    def clamp(self) -> None:
        """Clamp a learned scale to at most 100, as CLIP does after every step."""
        if self.log_scale.requires_grad:
            self.log_scale.clamp_(max=LARGEST_LOG_SCALE)
