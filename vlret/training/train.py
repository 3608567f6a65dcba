"""Train one experiment's bi-encoder."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from vlret.console import say
from vlret.data.tables import all_questions
from vlret.encoders.vocabulary import tokenizer_of
from vlret.files import InputError, locked, remove
from vlret.negatives.mine import read
from vlret.runs import read_qrels
from vlret.training.batches import Batches, Example
from vlret.training.corpus import Tables, passage_side, question_side
from vlret.tuning.methods import build
from vlret.tuning.pretrained import save_pretrained


def train(
    settings: dict,
    weights: Mapping[str, Path],
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
        The published weights, as `vlret.encoders.assemble.assemble` takes them.
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
    # On a GPU some kernels have no deterministic form: there the same seed gives nearly the same, with a warning.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    tables = Tables(questions, passages, articles, question_features, article_features)
    tokenizer = tokenizer_of(settings, weights)
    side = None if settings["model"]["kind"] == "image" else question_side(settings, tables, tokenizer)
    feature_dim = None if side is None or side.features is None else side.features.dim
    model = build(settings, weights, feature_dim)
    if settings["tuning"]["method"] != "zs":
        examples = training_examples(questions, qrels, negatives, settings["training"]["negatives"])
        passages_ = passage_side(settings, tables, tokenizer)
        from vlret.training.fit import fit  # loads transformers' Trainer, which zero-shot does not need

        batches = Batches(examples, side, passages_, settings["training"], settings["seed"])
        state = out.parent / f"{out.name}.training"
        with locked(out.parent / f".{out.name}.lock"):
            fit(model, batches, settings, state)
            save_pretrained(model, {**settings, "feature_dim": feature_dim}, out)
            remove(state)
    else:
        save_pretrained(model, {**settings, "feature_dim": feature_dim}, out)


def training_examples(
    questions: Path, qrels: Path, negatives: Mapping[str, Path], shares: Mapping[str, float]
) -> list[Example]:
    """The training questions that have a relevant passage; how many have none is said in one line."""
    if missing := sorted(shares.keys() - negatives.keys()):
        raise InputError(f"training.negatives: no mined passages of {', '.join(missing)} were given")
    relevant = read_qrels(qrels)
    mined = {miner: read(negatives[miner]) for miner in shares}
    examples = []
    for unit, question in enumerate(all_questions(questions).select_columns(["id", "wikidata_id"])):
        if relevant.get(question["id"]):
            own = {miner: found[question["id"]].tolist() for miner, found in mined.items()}
            rows = tuple(sorted(relevant[question["id"]]))
            examples.append(Example(unit, question["wikidata_id"], rows, own))
    say(f"{qrels}: {len(examples)} of {len(relevant)} questions have a relevant passage and are trained on")
    return examples
