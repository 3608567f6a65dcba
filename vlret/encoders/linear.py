"""Linear layers by the faster of torch's two CPU libraries."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Linear(nn.Linear):
    """`torch.nn.Linear` that uses oneDNN for single precision on a CPU.

    torch uses MKL, which reaches half of oneDNN's speed on an AMD EPYC with AVX-512.
    """

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., in_features]` to `[..., out_features]`."""
        if not _through_onednn(hidden):
            return F.linear(hidden, self.weight, self.bias)
        if not torch.is_grad_enabled():
            return _product(hidden, self.weight, self.bias)
        # A two-dimensional product is no view, so later operations may change it in place.
        rows = _Product.apply(hidden.flatten(0, -2), self.weight, self.bias)
        return rows.unflatten(0, hidden.shape[:-1])


class _Product(torch.autograd.Function):
    """`_product` of `[rows, in_features]` with its gradients, which are two more products."""

    @staticmethod
    def forward(context, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(hidden, weight)
        return _product(hidden, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context, upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = context.saved_tensors
        by_hidden, by_weight, by_bias = context.needs_input_grad
        return (
            _product(upstream, weight.T) if by_hidden else None,
            _product(upstream.T, hidden.T) if by_weight else None,
            upstream.sum(dim=0) if by_bias else None,
        )


def product(hidden: Tensor, weight: Tensor) -> Tensor:
    """`hidden` `[rows, in_features]` times the transpose of `weight` `[out_features, in_features]`; no gradient."""
    return _product(hidden, weight) if _through_onednn(hidden) else F.linear(hidden, weight)


def _product(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What torch's compiler calls for a linear layer on a CPU; it has no public name."""
    return torch.ops.mkldnn._linear_pointwise(hidden, weight, bias, "none", [], "")


def _through_onednn(hidden: Tensor) -> bool:
    single = hidden.device.type == "cpu" and hidden.dtype == torch.float32 and hidden.numel() > 0 and hidden.ndim > 1
    lowered = torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
    return single and not lowered and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
