"""Contrastive objectives."""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100


def dpr_loss(
    questions: Tensor, passages: Tensor, labels: Tensor, scale: Tensor | float = 1.0, excluded: Tensor | None = None
) -> Tensor:
    """Negative log-likelihood of each question's relevant passage among all passages of the batch.

    Parameters
    ----------
    questions
        `[questions, dim]`.
    passages
        `[passages, dim]`: all relevant passages, then all hard negatives.
    labels
        `[questions]`: the row of each question's relevant passage; a question of label -100 is left out of the mean.
    scale
        What inner products are multiplied with (the inverse temperature); 1 in DPR.
    excluded
        `[questions, passages]`: True where a passage is relevant to the question without being its label. It is
        neither for nor against: DPR would count it as irrelevant.

    Source: Karpukhin et al. 2020, "Dense Passage Retrieval", section 3.2.
    """
    scores = scale * questions @ passages.T
    if excluded is not None:
        scores = scores.masked_fill(excluded, -torch.inf)
    return F.nll_loss(F.log_softmax(scores, dim=1), labels, ignore_index=IGNORED)
