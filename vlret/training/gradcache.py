"""Gradients of the joint loss of arbitrarily large batches: vectors are cached, their graphs are not.

Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", section 3
(GradCache).
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from vlret.files import InputError
from vlret.training.batches import Batch
from vlret.training.distributed import gather, without_sync, world
from vlret.training.pieces import Piece, seed_of

Scale = Callable[[Tensor], Tensor]


def accumulate(
    pairs: nn.Module, objective: nn.Module, pieces: Iterator[Piece], scale: Scale, seed: tuple[int, ...], last: bool
) -> Tensor:
    """Accumulate a batch's gradients and return its loss.

    DDP averages gradients over processes but the joint loss needs their sum, so gradients at the vectors are multiplied
    by the number of processes. The gradients of `objective`'s own parameters are complete on each process.

    Parameters
    ----------
    pairs
        Inputs to the vectors of questions and passages, `[n, dim]` each; may be wrapped in DDP.
    objective
        The vectors of all processes, labels and exclusions to a loss.
    pieces
        Starts with the batch's pieces, twice if there are several.
    scale
        Scales the loss before the backward pass.
    seed
        Seeds dropout, with the piece's number: the same in both passes and on any process.
    last
        Whether to synchronise gradients between processes now, or with a later batch.
    """
    piece = next(pieces)
    if piece.of == 1:
        with without_sync(pairs, not last):
            vectors = [_encode(pairs, piece, seed)]
            loss, gradients = _at_vectors(objective, piece.batch, vectors, scale)
            _backward(vectors[0], gradients[0], piece.batch)
        return loss
    with torch.no_grad():
        vectors = [_encode(pairs, piece, seed)]
        vectors += [_encode(pairs, next(pieces), seed) for _ in range(1, piece.of)]
    loss, gradients = _at_vectors(objective, piece.batch, vectors, scale)
    for number, gradient in enumerate(gradients):
        with without_sync(pairs, not last or number < len(gradients) - 1):
            _backward(_encode(pairs, next(pieces), seed), gradient, piece.batch)
    return loss


def _encode(pairs: nn.Module, piece: Piece, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed_of(*seed, piece.number))
    return pairs(**piece.inputs)


def _backward(vectors: tuple[Tensor, Tensor], gradients: list[Tensor], batch: Batch) -> None:
    reached = [(part, gradient) for part, gradient in zip(vectors, gradients, strict=True) if part.requires_grad]
    if not reached:
        raise InputError(f"training.tasks.{batch.task.name}: uses no parameter that this tuning method trains")
    torch.autograd.backward(*map(list, zip(*reached, strict=True)))


def _at_vectors(
    objective: nn.Module, batch: Batch, vectors: list[tuple[Tensor, Tensor]], scale: Scale
) -> tuple[Tensor, list[list[Tensor]]]:
    """The joint loss and, times the number of processes, its gradients at the vectors of each local piece."""
    leaves = [[part.detach().requires_grad_() for part in piece] for piece in vectors]
    questions, passages = (torch.cat(parts) for parts in zip(*leaves, strict=True))
    questions = gather(questions, batch.counts(batch.spans, world()))
    passages = gather(passages, batch.counts(batch.passage_spans, world()))
    labels, excluded = (part.to(questions.device, non_blocking=True) for part in (batch.labels, batch.excluded))
    loss = objective(questions, passages, labels, excluded)
    scale(loss).backward()
    return loss.detach(), [[leaf.grad.mul_(world()) for leaf in piece] for piece in leaves]
