"""Tokenizers with VL-T5's and VL-BART's added tokens against stored ids of the originals; added embedding rows."""

import json
import shutil

import pytest
import torch
import transformers
from parity import FOLDER, cases
from tiny_encoders import experiment

from vlret.encoders.assemble import assemble
from vlret.encoders.published import LAYOUTS, empty_encoder
from vlret.encoders.vocabulary import add_extra_tokens, extend, tokenizer_of
from vlret.files import InputError

CASES = cases("tokenizer", "tokenizer*")
TOY = FOLDER / "tokenizer" / "tokenizer.json"
# Unlike the originals, tokenizers of transformers 5 append `</s>` even to texts that end with it.
ENDS_TWICE = "</s>"


def settings(architecture, order=True, **model):
    text = {"architecture": architecture, "separator": "."}
    visual = {"order": order}
    return experiment({"kind": "joint", "backbone": "toy", "text": text, "visual": visual, **model})


def t5_folder(path, folder):
    """The toy sentencepiece model beside a case, in a folder like the published t5-base."""
    folder.mkdir()
    shutil.copy(path.with_name("toy_spiece.model"), folder / "spiece.model")
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    return folder


def bart_folder(folder):
    """GPT-2's 256 bytes without merges, in a folder like the published bart-base."""
    folder.mkdir()
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [*map(chr, printable), *(chr(256 + place) for place in range(256 - len(printable)))]
    words = ["<s>", "<pad>", "</s>", "<unk>", *symbols, "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({word: row for row, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "bart"}))
    return folder


@pytest.mark.parity
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_vlt5s_tokens_have_the_ids_of_the_original(path, tmp_path):
    case = json.loads(path.read_text())["vlt5"]
    tokenizer = tokenizer_of(settings("t5"), {"text": t5_folder(path, tmp_path / "t5")})
    assert len(tokenizer) == case["vocab_size"] == case["n_sp_pieces"] + 200
    assert {name: tokenizer.convert_tokens_to_ids(name) for name in case["ids"]} == case["ids"]
    assert tokenizer.convert_ids_to_tokens([int(row) for row in case["tail_tokens"]]) == [*case["tail_tokens"].values()]
    for text in case["cases"]:
        expected = text["input_ids"] + [case["eos"]] * text["text"].endswith(ENDS_TWICE)
        assert tokenizer(text["text"])["input_ids"] == expected, text["text"]
    batch = case["batch"]
    cut = tokenizer(batch["texts"], truncation=True, max_length=batch["max_length"], padding=True)
    assert cut["input_ids"] == batch["input_ids"]
    assert cut["attention_mask"] == batch["attention_mask"]


@pytest.mark.parity
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_vlbarts_tokens_have_the_ids_of_the_original(path, tmp_path):
    case = json.loads(path.read_text())["vlbart"]
    folder = bart_folder(tmp_path / "bart")
    assert len(tokenizer_of(settings("bart", order=False), {"text": folder})) == case["base_len"]
    tokenizer = tokenizer_of(settings("bart"), {"text": folder})
    assert len(tokenizer) == case["len"] == case["base_len"] + case["num_added"]
    assert {name: tokenizer.convert_tokens_to_ids(name) for name in case["ids"]} == case["ids"]
    for text in case["cases"]:
        assert tokenizer(text["text"])["input_ids"] == text["input_ids"], text["text"]


def full_size_t5(folder):
    """A tokenizer with as many pieces as t5-base's: 32,000 and 100 for spans."""
    first = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces = [*first, *((f"▁w{number}", -3.0) for number in range(32_000 - len(first)))]
    spans = [(f"<extra_id_{k}>", 0.0) for k in reversed(range(100))]
    transformers.T5Tokenizer(vocab=[*pieces, *spans]).save_pretrained(folder)
    return folder


def test_ids_at_the_size_of_t5_base(tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(full_size_t5(tmp_path))
    assert len(tokenizer) == 32_100
    add_extra_tokens(tokenizer, tmp_path)
    assert len(tokenizer) == 32_200
    ids = {"<extra_id_0>": 32_099, "<extra_id_99>": 32_000, "<vis_extra_id_0>": 32_199, "<vis_extra_id_99>": 32_100}
    assert {name: tokenizer.convert_tokens_to_ids(name) for name in ids} == ids
    add_extra_tokens(tokenizer, tmp_path)
    assert len(tokenizer) == 32_200


def test_added_tokens_with_other_ids_are_rejected(tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(bart_folder(tmp_path / "bart"))
    tokenizer.add_tokens(["<vis_extra_id_0>"], special_tokens=True)
    with pytest.raises(InputError, match=r"bart: the tokenizer's id of <vis_extra_id_0> is 261, expected 460"):
        add_extra_tokens(tokenizer, tmp_path / "bart")


def test_a_folder_without_tokenizer_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no tokenizer here; check text\.weights"):
        tokenizer_of(settings("t5"), {"text": tmp_path})
    with pytest.raises(InputError, match="None: no tokenizer here"):
        tokenizer_of(settings("t5"), {})


def test_new_rows_are_seeded_and_old_ones_kept():
    table = torch.rand(50, 200)
    longer = extend(table, 80, 2.0, seed=1)
    assert longer.shape == (80, 200)
    assert torch.equal(longer[:50], table)
    assert abs(longer[50:].std() - 2) < 0.1
    assert abs(longer[50:].mean()) < 0.1
    assert torch.equal(longer, extend(table, 80, 2.0, seed=1))
    assert not torch.equal(longer, extend(table, 80, 2.0, seed=2))
    assert extend(table, 50, 2.0, seed=1) is table


@pytest.mark.parametrize("architecture", ["t5", "bart"])
@pytest.mark.parametrize("order", [True, False])
def test_object_order_adds_a_token_embedding_row_per_token(tmp_path, architecture, order):
    folder = bart_folder(tmp_path / "bart") if architecture == "bart" else t5_folder(TOY, tmp_path / "t5")
    text = len(transformers.AutoTokenizer.from_pretrained(folder))
    if architecture == "t5":  # published with a few rows beyond the tokens
        config = transformers.T5Config(vocab_size=text + 28, d_model=16, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
        model = transformers.T5ForConditionalGeneration(config)
    else:
        sizes = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
        config = transformers.BartConfig(vocab_size=text, d_model=16, encoder_layers=1, decoder_layers=1, **sizes)
        model = transformers.BartModel(config)
    model.save_pretrained(folder)
    model_ = assemble(settings(architecture, order), {"text": folder}, 6)
    table, published = model_.question.encoder.shared.weight, model.get_input_embeddings().weight
    rows = len(tokenizer_of(settings(architecture), {"text": folder})) if order else len(published)
    assert len(table) == model_.question.encoder.config.vocab_size == rows
    assert torch.equal(table[: len(published)], published)
    assert "question.encoder.shared.weight" in model_.pretrained
    again = assemble(settings(architecture, order), {"text": folder}, 6).question.encoder.shared.weight
    assert torch.equal(table, again)
    if order:
        deviation = config.initializer_factor if architecture == "t5" else config.init_std
        assert abs(table[len(published) :].std() / deviation - 1) < 0.1


def test_object_order_rejects_more_rows_than_tokens(tmp_path):
    folder = t5_folder(TOY, tmp_path / "t5")
    config = transformers.T5Config(vocab_size=400, d_model=16, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    transformers.T5EncoderModel(config).save_pretrained(folder)
    with pytest.raises(InputError, match=r"shared\.weight: \[400, 16\], expected \[285, 16\]"):
        assemble(settings("t5"), {"text": folder}, 6)
    assert len(empty_encoder(folder, LAYOUTS["t5"], decoder=False).shared.weight) == 400


def test_positions_override_a_tokenizers_published_limit(tmp_path):
    folder = t5_folder(TOY, tmp_path / "t5")
    for published in (5, 512):
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": published}))
        for config, longest in (({"n_positions": 512}, 10**9), ({"max_position_embeddings": 40}, 40)):
            (folder / "config.json").write_text(json.dumps({"model_type": "t5", **config}))
            assert tokenizer_of(settings("t5"), {"text": folder}).model_max_length == longest
    other = tmp_path / "passage"
    other.mkdir()
    (other / "config.json").write_text('{"max_position_embeddings": 30}')
    assert tokenizer_of(settings("t5"), {"text": folder, "passage": other}).model_max_length == 30
