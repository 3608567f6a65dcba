"""How well a bi-encoder ranks the passages of a batch: what early stopping and the best checkpoint go by."""

from torch import Tensor


def ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """The rank of each question's label, from 1, among the passages: `[questions, passages]` to `[questions]`.

    Passages that tie with the label stand before it, so that an encoder which tells nothing apart gains nothing.
    """
    own = scores.gather(1, labels[:, None])
    return (scores >= own).sum(dim=1)
