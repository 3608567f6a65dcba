"""CLIP as a dual encoder: titles by open_clip's text tower, questions by their cached image vectors."""

import json

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset, load_from_disk
from random_clip import SIZES, random_clip
from tiny_encoders import experiment
from torch.nn import functional as F
from toy import Toy

from vlret.encoders.clip import load_clip_text
from vlret.encoders.vocabulary import tokenizer_of
from vlret.features.store import FeatureStore
from vlret.files import InputError
from vlret.settings import ExperimentSettings
from vlret.training.train import train


@pytest.mark.parametrize("custom", [False, True])
def test_text_vectors_equal_open_clips(tmp_path, custom):
    model = random_clip(tmp_path / "clip", custom_text=custom)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "clip")
    texts = ["a b", "thing number 7", "x"]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    padded = torch.zeros(len(texts), SIZES["text_cfg"]["context_length"], dtype=torch.long)  # as open_clip's tokenizer
    for row, text in enumerate(texts):
        ids = tokenizer(text)["input_ids"]
        padded[row, : len(ids)] = torch.tensor(ids)
    encoder = load_clip_text(tmp_path / "clip").eval()
    with torch.no_grad():
        theirs = model.encode_text(padded)
        encoded = encoder(inputs["input_ids"], inputs["attention_mask"])
    torch.testing.assert_close(encoded.hidden, theirs.unsqueeze(1), atol=2e-6, rtol=1e-5)
    assert encoded.mask.tolist() == [[True]] * 3
    assert encoder.dim == SIZES["embed_dim"]
    ids = torch.ones(1, 25, dtype=torch.long)
    with pytest.raises(InputError, match=r"embedding\.passage_tokens: 25 tokens, CLIP reads 24"):
        encoder(ids, ids)
    assert not any("visual" in name for name in encoder.state_dict())


def test_a_dual_model_compares_images_with_titles(tmp_path):
    toy = Toy(tmp_path)
    model = random_clip(tmp_path / "clip")
    visual = {"grid": [2, 2], "tokens": [1, 1]}
    text = {"architecture": "clip", "separator": "."}
    settings = experiment({"kind": "dual", "backbone": "toy", "visual": visual, "text": text}, pooling="1token")
    weights = {"text": tmp_path / "clip"}
    train(settings=settings, weights=weights, threads=1, qrels=None, negatives={}, out=tmp_path / "checkpoint")
    corpus = {**toy.corpus, "weights": weights}
    toy.embed(tmp_path / "checkpoint", tmp_path / "embeddings", 5, "float32", **corpus)
    questions, articles = np.load(tmp_path / "embeddings" / "questions.npy"), toy.vectors(tmp_path / "embeddings")
    about = json.loads((tmp_path / "embeddings" / "passages" / "embeddings.json").read_text())
    assert (about["unit"], about["units"], about["cut"]) == ("article", len(articles), 0)
    features = FeatureStore.open(tmp_path / "fq").read(np.arange(1))[0].astype(np.float32)
    assert questions.shape[1] == articles.shape[1] == SIZES["embed_dim"]
    # The first question shows the first image; its vector is the maximum over the grid's cells.
    expected = F.normalize(torch.from_numpy(features).amax(dim=1), dim=-1)[0]
    np.testing.assert_allclose(questions[0], expected, atol=1e-6)
    titles = load_from_disk(str(toy.folder / "articles"))["title"]
    tokenizer = tokenizer_of(settings, weights)
    tokens = tokenizer(list(titles), padding="max_length", max_length=24, return_tensors="pt")
    with torch.no_grad():
        theirs = F.normalize(model.encode_text(tokens["input_ids"] * tokens["attention_mask"]), dim=-1)
    np.testing.assert_allclose(articles, theirs, atol=1e-6)


def test_long_titles_are_truncated_as_by_clips_tokenizer(tmp_path, capsys):
    toy = Toy(tmp_path)
    model = random_clip(tmp_path / "clip")
    rows = load_from_disk(str(toy.folder / "articles")).to_dict()
    rows["title"][5] = "a long title of a work of art of the last century"
    Dataset.from_dict(rows).save_to_disk(str(tmp_path / "long"))
    entry = {"kind": "dual", "backbone": "toy", "visual": {"grid": [2, 2], "tokens": [1, 1]}}
    entry["text"] = {"architecture": "clip", "separator": "."}
    changes = {"model": entry, "pooling": "1token", "tokens": {"question": 64, "passage": 64}}
    settings = ExperimentSettings(**{**toy.settings("zs"), **changes})
    corpus = {**toy.corpus, "weights": {"text": tmp_path / "clip"}, "articles": tmp_path / "long"}
    train(settings=settings, **corpus, threads=1, qrels=None, negatives={}, out=tmp_path / "checkpoint")
    toy.embed(tmp_path / "checkpoint", tmp_path / "embeddings", 5, "float32", **corpus)
    message = f"article: 1 of {len(rows['title'])} texts were truncated to 24 tokens"
    assert capsys.readouterr().err.count(message) == 1
    assert json.loads((tmp_path / "embeddings" / "passages" / "embeddings.json").read_text())["cut"] == 1
    tokenizer = tokenizer_of(settings, corpus["weights"])
    ids = tokenizer(rows["title"][5], truncation=True, max_length=24, return_tensors="pt")["input_ids"]
    assert ids[0, -1] == tokenizer.eos_token_id
    with torch.no_grad():
        expected = F.normalize(model.encode_text(ids), dim=-1)
    np.testing.assert_allclose(toy.vectors(tmp_path / "embeddings")[[5]], expected, atol=1e-6)


def test_a_folder_without_an_open_clip_model_is_rejected(tmp_path):
    random_clip(tmp_path / "clip")
    config, weights = tmp_path / "clip" / "open_clip_config.json", tmp_path / "clip" / "open_clip_model.safetensors"
    stored = json.loads(config.read_text())
    deeper = {**stored["model_cfg"], "text_cfg": {**stored["model_cfg"]["text_cfg"], "layers": 3}}
    config.write_text(json.dumps({**stored, "model_cfg": deeper}))
    with pytest.raises(InputError, match=r"open_clip_model\.safetensors: 12 missing parameters, the first transformer"):
        load_clip_text(tmp_path / "clip")
    config.write_text(json.dumps({"model_cfg": {**deeper, "text_cfg": {"hf_model_name": "roberta-base"}}}))
    with pytest.raises(InputError, match=r"text_cfg\.hf_model_name: only open_clip's own text towers"):
        load_clip_text(tmp_path / "clip")
    config.write_text("{}")
    with pytest.raises(InputError, match=r"open_clip_config\.json: model_cfg: not a CLIP config"):
        load_clip_text(tmp_path / "clip")
    weights.unlink()
    config.write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"no open_clip_model\.safetensors or open_clip_pytorch_model\.bin here"):
        load_clip_text(tmp_path / "clip")
