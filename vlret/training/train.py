"""Train one experiment's bi-encoder."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from transformers import Trainer, TrainingArguments, set_seed
from transformers.integrations import TensorBoardCallback

from vlret.console import say
from vlret.encoders.biencoder import BiEncoder
from vlret.encoders.checkpoints import save_checkpoint
from vlret.files import InputError, locked, read_json, remove, write_json
from vlret.runs import read_qrels
from vlret.training.batches import Batches, Example
from vlret.training.corpus import Tables, all_questions, passage_side, question_side, tokenizer_of
from vlret.training.losses import dpr_loss
from vlret.tuning.methods import build


class Contrastive(nn.Module):
    """A bi-encoder and its learned temperature; forward is the loss of a batch."""

    def __init__(self, biencoder: BiEncoder, temperature: float):
        super().__init__()
        self.biencoder = biencoder
        self.log_scale = nn.Parameter(torch.tensor(-np.log(temperature), dtype=torch.float32))

    def forward(self, questions: dict, passages: dict, labels: Tensor, excluded: Tensor) -> dict[str, Tensor]:
        """The inputs of both sides, labels `[questions]`, excluded `[questions, passages]` to the loss."""
        questions, passages = self.biencoder(**questions), self.biencoder(**passages)
        return {"loss": dpr_loss(questions, passages, labels, self.log_scale.exp(), excluded)}


class ContrastiveTrainer(Trainer):
    """`transformers.Trainer` over whole batches; only matrices decay, as in BERT's optimizer."""

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """The names of all parameters with two or more dimensions."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]


def train(
    settings: dict,
    weights: Path | None,
    questions: Path,
    passages: Path,
    articles: Path,
    question_features: Path | None,
    article_features: Path | None,
    qrels: Path,
    negatives: Mapping[str, Path],
    out: Path,
) -> None:
    """Train an experiment and write its checkpoint; a zero-shot one is written as it is built.

    The state of training stands beside `out` and is removed when the checkpoint is whole. The same command goes on
    from it after a kill.

    Parameters
    ----------
    settings
        `vlret.experiment.settings` of the experiment.
    weights
        The folder of the text encoder's pretrained weights; None for an image model.
    questions, passages, articles, question_features, article_features
        The dataset's tables and feature stores; no stores for a text model.
    qrels
        The judgements of the training questions.
    negatives
        Miner -> the irrelevant passages it found for the training questions.
    out
        The folder of the checkpoint.

    Raises
    ------
    InputError
        If a miner of `settings["training"]["negatives"]` is not in `negatives`, or entities do not fill a batch.
    """
    torch.set_num_threads(settings["threads"])
    set_seed(settings["seed"])
    torch.use_deterministic_algorithms(True)
    tables = Tables(questions, passages, articles, question_features, article_features)
    tokenizer = tokenizer_of(settings, weights)
    side = None if settings["model"]["kind"] == "image" else question_side(settings, tables, tokenizer)
    feature_dim = None if side is None or side.features is None else side.features.dim
    model = build(settings, weights, feature_dim)
    if settings["tuning"]["method"] != "zs":
        examples = training_examples(questions, qrels, negatives, settings["training"]["negatives"])
        passages_ = passage_side(settings, tables, tokenizer)
        batches = Batches(examples, side, passages_, settings["training"], settings["seed"])
        state = out.parent / f"{out.name}.training"
        with locked(out.parent / f".{out.name}.lock"):
            fit(model, batches, settings, state)
            save_checkpoint(out, model.own_weights(), settings)
            remove(state)
    else:
        save_checkpoint(out, model.own_weights(), settings)


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
    result = trainer.train(resume_from_checkpoint=last_whole_checkpoint(state))
    say(f"{settings['name']}: {training['steps']} steps, mean loss {result.training_loss:.4f}")


def training_examples(
    questions: Path, qrels: Path, negatives: Mapping[str, Path], shares: Mapping[str, float]
) -> list[Example]:
    """The training questions that have a relevant passage; how many have none is said in one line."""
    if missing := sorted(shares.keys() - negatives.keys()):
        raise InputError(f"training.negatives: no mined passages of {', '.join(missing)} were given")
    relevant = read_qrels(qrels)
    mined = {}
    for miner in shares:
        table = pq.read_table(negatives[miner])
        mined[miner] = dict(zip(table["question"].to_pylist(), table["passages"].to_pylist(), strict=True))
    examples = []
    for unit, question in enumerate(all_questions(questions).select_columns(["id", "wikidata_id"])):
        if relevant.get(question["id"]):
            own = {miner: found.get(question["id"], []) for miner, found in mined.items()}
            rows = tuple(sorted(relevant[question["id"]]))
            examples.append(Example(unit, question["wikidata_id"], rows, own))
    say(f"{qrels}: {len(examples)} of {len(relevant)} questions have a relevant passage and are trained on")
    return examples


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
