"""LoRA and (IA)3 by `peft`, shared by tasks or per task."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from vlret.encoders.dropout import Dropout
from vlret.encoders.tasks import PerTask
from vlret.settings import IA3, LoRA

# The targets of each, as keys of an encoder's `projections`.
LORA_TARGETS, IA3_TARGETS = ("query", "value"), ("key", "value", "feed-forward")


class Switch(PerTask):
    """Switches the `peft` layers of an encoder to the active task."""

    def __init__(self, tasks: list[str], layers: tuple[nn.Module, ...]):
        super().__init__(tasks)
        self.layers = layers  # in a tuple, so that they are not registered twice
        self.activate(self.task)

    def activate(self, task: str) -> None:
        """Use the part of `task`, without changing what is trained."""
        super().activate(task)
        for layer in self.layers:
            with preserve_requires_grad(layer):
                layer.set_adapter([task])


@contextmanager
def preserve_requires_grad(module: nn.Module) -> Iterator[None]:
    """Restore `requires_grad` on exit, as `peft` makes whatever it activates trainable."""
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        yield
    finally:
        for parameter, trained in before:
            parameter.requires_grad_(trained)


def targets(encoder: nn.Module, kinds: tuple[str, ...]) -> str:
    """A regular expression for the full names of an encoder's projections of some kinds."""
    return rf".*\.(?:{'|'.join(encoder.projections[kind] for kind in kinds)})"


def inject(encoder: nn.Module, config: object, tasks: list[str], single: bool) -> None:
    """Inject the layers of a `peft` config into an encoder, per task or `single` ones named after the first task."""
    from peft import inject_adapter_in_model  # here, as importing it takes seconds
    from peft.tuners.tuners_utils import BaseTunerLayer

    for task in tasks[:1] if single else tasks:
        inject_adapter_in_model(config, encoder, task)
        del encoder.peft_config  # else it warns at every further task
    for name, module in [*encoder.named_modules()]:
        if type(module) is nn.Dropout:
            encoder.set_submodule(name, Dropout(module.p))
    layers = (module for module in encoder.modules() if isinstance(module, BaseTunerLayer))
    encoder.tuner_layers = Switch(tasks, () if single else tuple(layers))


def add_lora(encoder: nn.Module, settings: LoRA, tasks: list[str]) -> None:
    """Add `alpha / rank * B A` to the query and value projections of all attention, including the decoder's.

    Source: Hu et al. 2022, "LoRA", section 4; github.com/ylsung/VL_adapter, which has it only for BART.
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
    """Scale keys, values and the input of the last feed-forward projection.

    Source: Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
    Learning", section 3.3.
    """
    from peft import IA3Config

    feed_forward = targets(encoder, ("feed-forward",))
    config = IA3Config(target_modules=targets(encoder, IA3_TARGETS), feedforward_modules=feed_forward)
    inject(encoder, config, tasks, settings.sharing == "single")
