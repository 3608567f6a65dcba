"""The training loop: `transformers.Trainer` over whole batches, going on from where a killed one stood."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from transformers import Trainer, TrainingArguments
from transformers.integrations import TensorBoardCallback

from vlret.console import say
from vlret.encoders.biencoder import BiEncoder
from vlret.files import read_json, remove, write_json
from vlret.training.batches import Batches
from vlret.training.losses import dpr_loss


class Contrastive(nn.Module):
    """A bi-encoder and its learned temperature; forward is the loss of a batch."""

    def __init__(self, biencoder: BiEncoder, temperature: float):
        super().__init__()
        self.biencoder = biencoder
        self.log_scale = nn.Parameter(torch.tensor(-np.log(temperature), dtype=torch.float32))

    def forward(
        self, questions: dict, passages: list[dict], order: Tensor, labels: Tensor, excluded: Tensor
    ) -> dict[str, Tensor]:
        """A batch of `vlret.training.batches.Batches` to its loss."""
        vectors = torch.cat([self.biencoder.encode("passage", group) for group in passages])[order]
        return {
            "loss": dpr_loss(
                self.biencoder.encode("question", questions), vectors, labels, self.log_scale.exp(), excluded
            )
        }


class ContrastiveTrainer(Trainer):
    """`transformers.Trainer` over whole batches; only matrices decay, as in BERT's optimizer."""

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """The names of all parameters with two or more dimensions."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]


def fit(model: BiEncoder, batches: Batches, settings: dict, state: Path) -> None:
    """Train `model` in place, going on from what `state` holds if the same settings left it."""
    training = settings["training"]
    if not _same_settings(state, settings):
        remove(state)
    write_json(state / "settings.json", settings)
    arguments = TrainingArguments(
        output_dir=str(state),
        max_steps=training["steps"],
        per_device_train_batch_size=1,  # an item is a whole batch
        train_sampling_strategy="sequential",
        gradient_accumulation_steps=training["accumulation"],
        learning_rate=training["learning_rate"],
        warmup_steps=training["warmup_steps"],
        weight_decay=training["weight_decay"],
        max_grad_norm=training["max_gradient_norm"],
        bf16=training["precision"] == "bf16",
        fp16=training["precision"] == "fp16",
        use_cpu=not torch.cuda.is_available(),
        seed=settings["seed"],
        logging_steps=5,
        save_steps=training["save_steps"],
        save_total_limit=2,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        report_to=[],
    )
    trainer = ContrastiveTrainer(
        model=Contrastive(model, training["temperature"]),
        args=arguments,
        train_dataset=batches,
        data_collator=lambda items: items[0],
        callbacks=[TensorBoardCallback(SummaryWriter(state / "tensorboard"))],
    )
    checkpoint = last_whole_checkpoint(state)
    if checkpoint is not None:
        say(f"{settings['name']}: going on from step {checkpoint.rsplit('-', 1)[1]}, where an earlier run was stopped")
    result = trainer.train(resume_from_checkpoint=checkpoint)
    say(f"{settings['name']}: {training['steps']} steps, mean loss {result.training_loss:.4f}")


def last_whole_checkpoint(state: Path) -> str | None:
    """The newest checkpoint that a killed training left whole: its `trainer_state.json`, written last, can be read."""
    steps = sorted(state.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for path in steps:
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return str(path)
    return None


def _same_settings(state: Path, settings: dict) -> bool:
    path = state / "settings.json"
    return path.is_file() and read_json(path) == settings
