"""LoRA and (IA)3, through `peft`, for all tasks or for each."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from vlret.encoders.tasks import PerTask
from vlret.settings import IA3, LoRA

# What each changes, in the terms of an encoder's `projections`.
LORA_TARGETS, IA3_TARGETS = ("query", "value"), ("key", "value", "feed-forward")


class Switch(PerTask):
    """Lets the layers that `peft` has put into an encoder work for the active task."""

    def __init__(self, tasks: list[str], layers: tuple[nn.Module, ...]):
        super().__init__(tasks)
        self.layers = layers  # in a tuple, so that they are not registered here too
        self.activate(self.task)

    def activate(self, task: str) -> None:
        """Work for `task` from now on, and train what was trained before."""
        super().activate(task)
        for layer in self.layers:
            with same_gradients(layer):
                layer.set_adapter([task])


@contextmanager
def same_gradients(module: nn.Module) -> Iterator[None]:
    """Undo what is changed inside about which parameters are trained; `peft` trains whatever it activates."""
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        yield
    finally:
        for parameter, trained in before:
            parameter.requires_grad_(trained)


def targets(encoder: nn.Module, kinds: tuple[str, ...]) -> str:
    """The regular expression of the full names of an encoder's projections of some kinds."""
    return rf".*\.(?:{'|'.join(encoder.projections[kind] for kind in kinds)})"


def inject(encoder: nn.Module, config: object, tasks: list[str], single: bool) -> None:
    """Put the layers of a `peft` config into an encoder, once a task or a `single` time under the first one's name."""
    from peft import inject_adapter_in_model  # here, since it takes seconds to load
    from peft.tuners.tuners_utils import BaseTunerLayer

    for task in tasks[:1] if single else tasks:
        inject_adapter_in_model(config, encoder, task)
        del encoder.peft_config  # else it warns of every further task
    layers = (module for module in encoder.modules() if isinstance(module, BaseTunerLayer))
    encoder.tuner_layers = Switch(tasks, () if single else tuple(layers))


def add_lora(encoder: nn.Module, settings: LoRA, tasks: list[str]) -> None:
    """Add `alpha / rank * B A` to the query and value projections of all attention, a decoder's too.

    Source: Hu et al. 2022, "LoRA", section 4; github.com/ylsung/VL_adapter, which has it for BART alone.
    """
    from peft import LoraConfig

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets(encoder, LORA_TARGETS),
    )
    inject(encoder, config, tasks, settings.sharing == "single")


def add_ia3(encoder: nn.Module, settings: IA3, tasks: list[str]) -> None:
    """Scale keys, values and what goes into the last feed-forward projection.

    Source: Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
    Learning", section 3.3.
    """
    from peft import IA3Config

    feed_forward = targets(encoder, ("feed-forward",))
    config = IA3Config(target_modules=targets(encoder, IA3_TARGETS), feedforward_modules=feed_forward)
    inject(encoder, config, tasks, settings.sharing == "single")
