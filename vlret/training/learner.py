"""A model with its losses, optimizer, learning rate and loss scaling; one training step, and its state."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from vlret.encoders.biencoder import BiEncoder
from vlret.encoders.precision import autocast, chosen, round_linear
from vlret.encoders.tasks import activate
from vlret.files import InputError
from vlret.settings import PartRates, Training
from vlret.training import distributed
from vlret.training.batches import Task
from vlret.training.gradcache import accumulate
from vlret.training.losses import Objective
from vlret.training.pieces import Piece
from vlret.training.state import copied

RECOMPILATIONS = 64  # one graph per task, side and pass


class Pairs(nn.Module):
    """A bi-encoder whose forward encodes questions and passages together, as DDP requires.

    Parameters
    ----------
    biencoder
        The bi-encoder.
    precision
        `fp32` keeps the parameters' dtype; `bf16` and `fp16` autocast. With bf16, frozen published parameters of linear
        maps are rounded in place.
    compiled
        Whether to compile the encoding, with dynamic shapes.
    """

    def __init__(self, biencoder: BiEncoder, precision: str = "fp32", compiled: bool = False):
        super().__init__()
        self.biencoder, self.precision = biencoder, precision
        frozen = {name for name, parameter in biencoder.named_parameters() if not parameter.requires_grad}
        round_linear(biencoder, precision, lambda name: name in frozen and name in biencoder.pretrained)
        self.encode = compile_encoding(biencoder.encode) if compiled else biencoder.encode

    def forward(self, questions: dict, passages: list[dict], order: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs of `vlret.training.batches.Batch` to vectors, `[questions, dim]` and `[passages, dim]`."""
        with autocast(self.precision, distributed.device()):
            vectors = self.encode("question", _to_device(questions))
            groups = [self.encode("passage", _to_device(group)) for group in passages]
        return _at_least_single(vectors), _at_least_single(
            torch.cat(groups)[order.to(vectors.device, non_blocking=True)]
        )

    def vectors(self, side: str, inputs: dict[str, Tensor]) -> Tensor:
        """The vectors of inputs of one side, `question` or `passage`: `[n, dim]`."""
        with autocast(self.precision, distributed.device()):
            return _at_least_single(self.encode(side, _to_device(inputs)))


def compile_encoding(encode: Callable) -> Callable:
    """Compile `BiEncoder.encode` with dynamic shapes, keeping its uncompiled dropout."""
    from torch._dynamo import config as dynamo
    from torch._inductor import config as inductor

    # Compiled dropout depends on whether gradients are recorded, in which GradCache's two passes differ.
    inductor.fallback_random = True
    dynamo.recompile_limit = max(RECOMPILATIONS, dynamo.recompile_limit)
    # Set again, as only this reaches the compiler.
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled(), warn_only=warn_only)
    return torch.compile(encode, dynamic=True)


class Learner:
    """The mutable state of a training.

    Parameters
    ----------
    model
        Trained in place: its parameters that require gradients.
    tasks
        Each gets a loss.
    training, seed
        The training settings and the seed of all randomness.

    Raises
    ------
    InputError
        If `precision` is fp16 without a GPU, or no part of the model supports `checkpointing`.
    """

    def __init__(self, model: BiEncoder, tasks: Sequence[Task], training: Training, seed: int):
        device = distributed.device()
        self.training, self.seed, self.device = training, seed, device
        precision = chosen(training.precision, device, "training.precision")
        if training.checkpointing:
            checkpoint_gradients(model)
        self.pairs = Pairs(model, precision, training.compile).to(device)
        self.objectives = nn.ModuleList(Objective(task.settings.loss) for task in tasks).to(device)
        self.names = [task.name for task in tasks]
        self.wrapped = distributed.wrap(self.pairs, leave_parts(model, tasks))
        parts = {**parameters_by_part(model), "loss": list(self.objectives.parameters())}
        self.optimizer = optimizer_of(parts, training)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The trained parameters of model and losses, by name."""
        parts = nn.ModuleDict({"pairs": self.pairs, "objectives": self.objectives})
        return {name: parameter for name, parameter in parts.named_parameters() if parameter.requires_grad}

    def step(self, step: int, task: int, pieces: Iterator[Piece]) -> dict[str, Tensor | float]:
        """Take optimizer step `step` and return `loss`, `gradient_norm` and `learning_rate`."""
        rate = self.training.learning_rate * rate_at(step, self.training)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        loss = self.add_gradients(step, task, pieces)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.trained.values(), self.training.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.objectives[task].clamp()
        return {"loss": loss, "gradient_norm": norm, "learning_rate": rate}

    def add_gradients(self, step: int, task: int, pieces: Iterator[Piece]) -> Tensor:
        """Accumulate the scaled gradients of a step's batches and return their mean loss."""
        accumulation, losses = self.training.accumulation, []
        self.pairs.train()
        activate(self.pairs.biencoder, self.names[task])
        for number in range(accumulation):
            seed = (self.seed, step, number)
            last = number == accumulation - 1
            scale = partial(self._scale, accumulation)
            losses.append(accumulate(self.wrapped, self.objectives[task], pieces, scale, seed, last))
        distributed.average_gradients(self.objectives.parameters())
        return torch.stack(losses).mean()

    def weights(self) -> dict[str, Tensor]:
        """A copy of the trained parameters, on the CPU."""
        return {name: parameter.detach().to("cpu", copy=True) for name, parameter in self.trained.items()}

    @torch.no_grad()
    def set_weights(self, weights: dict[str, Tensor]) -> None:
        """Set the trained parameters to what `weights` returned."""
        for name, parameter in self.trained.items():
            parameter.copy_(weights[name])

    def state(self) -> dict:
        """A copy of everything that later steps depend on besides step number and seed."""
        parts = {"optimizer": copied(self.optimizer.state_dict()), "scaler": self.scaler.state_dict()}
        return {"weights": self.weights(), **parts}

    def restore(self, state: dict) -> None:
        """Restore what `state` returned."""
        self.set_weights(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def _scale(self, accumulation: int, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss / accumulation)


def leave_parts(model: BiEncoder, tasks: Sequence[Task]) -> bool:
    """Whether a process's share of a batch may leave a trained part of the model unused.

    So may tasks of several kinds, and any but `viquae`. Texts without an image use no visual embedding: a passage
    tower's own one if no passage has an image, a shared one if no question has either.
    """
    if len(tasks) > 1 or any(task.settings.kind != "viquae" for task in tasks):
        return True
    own = any(name.startswith("passage.") and model.part_of(name) == "visual" for name, _ in model.named_parameters())
    return own or any(task.questions.images is not None and (task.questions.images < 0).any() for task in tasks)


def rate_at(step: int, training: Training) -> float:
    """The learning rate's factor: linear from 0 over the warm-up, then by the schedule.

    Cosine: Loshchilov and Hutter 2017, "SGDR", section 3, without restarts.
    """
    if step < training.warmup_steps:
        return step / training.warmup_steps
    if training.schedule == "constant":
        return 1.0
    left = max(0.0, (training.steps - step) / max(1, training.steps - training.warmup_steps))
    return left if training.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


def parameters_by_part(model: BiEncoder) -> dict[str, list[nn.Parameter]]:
    """The parameters of the parts that `Training.by_part` names."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        found.setdefault(model.part_of(name), []).append(parameter)
    return found


def optimizer_of(parts: Mapping[str, Sequence[nn.Parameter]], training: Training) -> torch.optim.AdamW:
    """AdamW over the trained parameters; only those with two or more dimensions decay, as in BERT.

    `factor` of each parameter group is its learning rate relative to the training's.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for part, parameters in parts.items():
        own = training.by_part.get(part, PartRates())
        factor = (own.learning_rate or training.learning_rate) / training.learning_rate
        decay = training.weight_decay if own.weight_decay is None else own.weight_decay
        for parameter in parameters:
            if parameter.requires_grad:
                groups.setdefault((factor, decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    listed = [{"params": group, "factor": key[0], "weight_decay": key[1]} for key, group in groups.items()]
    return torch.optim.AdamW(listed, lr=training.learning_rate, fused=True)


def checkpoint_gradients(model: nn.Module) -> None:
    """Enable gradient checkpointing in every part that supports it."""
    parts = [module for module in model.modules() if hasattr(module, "checkpointing")]
    if not parts:
        raise InputError("training.checkpointing: no part of this model supports it; set it to false")
    for part in parts:
        part.checkpointing = True


def _to_device(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(distributed.device(), non_blocking=True) for name, tensor in inputs.items()}


def _at_least_single(vectors: Tensor) -> Tensor:
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))
