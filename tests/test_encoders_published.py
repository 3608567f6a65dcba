"""Our encoders, filled from published layouts, against the libraries that write these."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_encoders import experiment

from vlret.encoders.assemble import assemble
from vlret.encoders.biencoder import Tower
from vlret.encoders.published import LAYOUTS, empty_encoder, fill
from vlret.files import InputError

ROWS, DIM, HEADS, INNER = 60, 24, 4, 40
T5 = {
    "vocab_size": ROWS,
    "d_model": DIM,
    "d_kv": 6,
    "d_ff": INNER,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": HEADS,
}
BART = {
    "vocab_size": ROWS,
    "d_model": DIM,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": INNER,
    "decoder_ffn_dim": INNER,
    "max_position_embeddings": 40,
}
BERT = {
    "vocab_size": ROWS,
    "hidden_size": DIM,
    "num_hidden_layers": 3,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "max_position_embeddings": 40,
}
# Layout, transformers' class, its config, where its encoder is.
PUBLISHED = [
    ("t5", "T5EncoderModel", transformers.T5Config(**T5), "encoder"),
    ("t5", "T5Model", transformers.T5Config(**T5), "encoder"),
    ("t5", "T5ForConditionalGeneration", transformers.T5Config(**T5), "encoder"),
    ("bart", "BartModel", transformers.BartConfig(**BART), "encoder"),
    ("bart", "BartForConditionalGeneration", transformers.BartConfig(**BART, scale_embedding=True), "model.encoder"),
    ("bert", "BertModel", transformers.BertConfig(**BERT), ""),
    ("bert", "BertForPreTraining", transformers.BertConfig(**BERT), "bert"),
    ("dpr", "DPRQuestionEncoder", transformers.DPRConfig(**BERT), "question_encoder.bert_model"),
    ("dpr", "DPRContextEncoder", transformers.DPRConfig(**BERT), "ctx_encoder.bert_model"),
]
NAMES = [f"{layout}-{name}" for layout, name, _, _ in PUBLISHED]


def random_model(name, config, folder, seed=0):
    """A transformers model without degenerate parameters, saved by transformers."""
    torch.manual_seed(seed)
    model = getattr(transformers, name)(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer += 0.1
    model.save_pretrained(folder)
    return model


def load(folder, layout, pooling="avg"):
    encoder = empty_encoder(folder, LAYOUTS[layout], decoder=pooling == "decoder")
    tower = Tower(encoder, pooling).eval()
    fill(tower, folder, LAYOUTS[layout])
    return tower


def batch(lengths, pad, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, ROWS, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids.masked_fill(mask == 0, pad), "attention_mask": mask}


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("layout", "name", "config", "where"), PUBLISHED, ids=NAMES)
def test_hidden_states_equal_those_of_transformers(layout, name, config, where, tmp_path):
    model = random_model(name, config, tmp_path)
    inputs = batch([9, 4, 1], config.pad_token_id)
    with torch.no_grad():
        theirs = model.get_submodule(where)(**inputs).last_hidden_state
        encoded = load(tmp_path, layout).encoder(**inputs)
    close(encoded.hidden[encoded.mask], theirs[encoded.mask])


@pytest.mark.parametrize("name", ["T5ForConditionalGeneration", "BartForConditionalGeneration"])
def test_the_decoder_is_read_only_for_its_pooling(name, tmp_path):
    layout, _, config, _ = next(case for case in PUBLISHED if case[1] == name)
    model = random_model(name, config, tmp_path)
    inputs = batch([9, 4, 1], config.pad_token_id)
    start = torch.full((3, 1), model.generation_config.decoder_start_token_id or 0)
    whole = model.model if layout == "bart" else model
    with torch.no_grad():
        states = whole.encoder(**inputs).last_hidden_state
        decoded = whole.decoder(
            input_ids=start, encoder_hidden_states=states, encoder_attention_mask=inputs["attention_mask"]
        )
        tower = load(tmp_path, layout, "decoder")
        ours = tower(**inputs)
    close(ours, torch.nn.functional.normalize(decoded.last_hidden_state[:, 0], dim=-1))
    assert load(tmp_path, layout).encoder.decoder is None


@pytest.mark.parametrize("how", ["zip", "legacy"])
def test_torch_save_and_safetensors_files_read_alike(tmp_path, how):
    random_model("BertModel", transformers.BertConfig(**BERT), tmp_path)
    inputs = batch([5], 0)
    with torch.no_grad():
        expected = load(tmp_path, "bert")(**inputs)
        weights = load_file(tmp_path / "model.safetensors")
        (tmp_path / "model.safetensors").unlink()
        torch.save(weights, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=how == "zip")
        assert torch.equal(load(tmp_path, "bert")(**inputs), expected)


def test_tensorflow_norm_names_are_read(tmp_path):
    random_model("BertForPreTraining", transformers.BertConfig(**BERT), tmp_path)
    inputs, file = batch([5], 0), tmp_path / "model.safetensors"
    with torch.no_grad():
        expected = load(tmp_path, "bert")(**inputs)
        ways = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        weights = load_file(file)
        for new, old in ways.items():
            weights = {name.replace(new, old): tensor for name, tensor in weights.items()}
        assert any("gamma" in name for name in weights)
        save_file(weights, file)
        assert torch.equal(load(tmp_path, "bert")(**inputs), expected)


def damaged(folder, damage, name):
    file = folder / "model.safetensors"
    weights = load_file(file)
    if damage == "missing":
        del weights[name]
    elif damage == "unexpected":
        weights[f"{name}.again"] = weights[name].clone()
    else:
        weights[name] = weights[name][:-1].clone()
    save_file(weights, file)


@pytest.mark.parametrize("damage", ["missing", "unexpected", "misshapen"])
@pytest.mark.parametrize(("layout", "name", "config", "where"), PUBLISHED, ids=NAMES)
def test_a_wrong_key_is_named(layout, name, config, where, damage, tmp_path):
    random_model(name, config, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    last = [key for key in stored if "decoder" not in key and ".2." in key and key.endswith(".weight")][-1]
    damaged(tmp_path, damage, last)
    ending = last.split(".2.")[1]
    with pytest.raises(InputError, match=rf"model\.safetensors: 1 {damage} parameters, the first .*\.2\.{ending}"):
        load(tmp_path, layout)


def test_a_differing_copy_of_the_token_embedding_is_rejected(tmp_path):
    random_model("T5ForConditionalGeneration", transformers.T5Config(**T5), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    table = weights.pop("shared.weight")
    (tmp_path / "model.safetensors").unlink()
    same = {name: table.clone() for name in ("shared.weight", "encoder.embed_tokens.weight", "lm_head.weight")}
    torch.save({**weights, **same}, tmp_path / "pytorch_model.bin")
    assert torch.equal(load(tmp_path, "t5").encoder.shared.weight, table)
    torch.save({**weights, **same, "lm_head.weight": table + 1}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"lm_head\.weight: differs from shared\.weight"):
        load(tmp_path, "t5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type: 'gpt2', expected t5"),
        ({"feed_forward_proj": "gated-gelu"}, "feed_forward_proj: 'gated-gelu'; only 'relu'"),
        ({"d_ff": None}, "d_ff: missing"),
    ],
)
def test_a_config_of_another_architecture_is_rejected(tmp_path, change, message):
    random_model("T5EncoderModel", transformers.T5Config(**T5), tmp_path)
    path = tmp_path / "config.json"
    config = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    with pytest.raises(InputError, match=message):
        load(tmp_path, "t5")


def settings(text, pooling="avg", **model):
    return experiment({"kind": "text", "text": {"separator": ".", **text}, **model}, pooling=pooling)


def test_dpr_has_separate_question_and_passage_encoders(tmp_path):
    folders, models = {}, {}
    for seed, (weights, name) in enumerate([("text", "DPRQuestionEncoder"), ("passage", "DPRContextEncoder")]):
        folders[weights] = tmp_path / weights
        models[weights] = random_model(name, transformers.DPRConfig(**BERT), folders[weights], seed)
    text = {"architecture": "bert", "layout": "dpr", "passage": {"path": "there"}}
    model = assemble(settings(text, "1token", head={"normalise": False}), folders, None).eval()
    inputs = batch([9, 4, 1], 0)
    with torch.no_grad():
        for side, weights in (("question", "text"), ("passage", "passage")):
            close(model.encode(side, inputs), models[weights](**inputs).pooler_output)
    assert model.own_weights().keys() == dict(model.named_parameters()).keys()
    model.requires_grad_(False)
    assert not model.own_weights()


def test_unused_and_missing_weights_are_named(tmp_path):
    text = {"architecture": "bert", "layout": "dpr", "passage": {"path": "there"}}
    with pytest.raises(InputError, match="weights 'passage': missing; the model needs passage, text"):
        assemble(settings(text), {"text": tmp_path}, None)
    with pytest.raises(InputError, match="weights 'joint': not used by the model; the model needs text"):
        assemble(settings({"architecture": "bert"}), {"text": tmp_path, "joint": tmp_path}, None)
    with pytest.raises(InputError, match=r"config\.json: no such file"):
        assemble(settings({"architecture": "bert"}), {"text": tmp_path}, None)


@pytest.fixture(scope="module")
def sentence_t5(tmp_path_factory):
    """A random model in Sentence-T5's layout, also loaded by sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    folder = tmp_path_factory.mktemp("sentence-t5")
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((f"▁w{n}", -3.0) for n in range(40))]
    tokenizer = transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0)
    random_model("T5EncoderModel", transformers.T5Config(**T5), folder / "t5")
    tokenizer.save_pretrained(folder / "t5")
    dense = Dense(DIM, 16, bias=False, activation_function=torch.nn.Identity())
    parts = [Transformer(str(folder / "t5")), Pooling(DIM, pooling_mode="mean"), dense, Normalize()]
    model = SentenceTransformer(modules=parts, device="cpu").eval()
    model.save(str(folder / "whole"))
    return folder / "whole", model


def test_sentence_t5_equals_sentence_transformers(sentence_t5):
    folder, model = sentence_t5
    text = {"architecture": "t5", "layout": "sentence-t5"}
    ours = assemble(settings(text, head={"projection": 16}), {"text": folder}, None).eval()
    texts = ["w1 w2 w3 w30 w5", "w7", "w8 w9 w8"]
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        close(ours.encode("passage", inputs), model.encode(texts, convert_to_tensor=True, batch_size=3))
    ours.requires_grad_(False)
    assert not ours.own_weights()


def test_sentence_t5_needs_a_head_with_identity_activation(sentence_t5, tmp_path):
    folder = shutil.copytree(sentence_t5[0], tmp_path / "copy")
    text = {"architecture": "t5", "layout": "sentence-t5"}
    with pytest.raises(InputError, match=r"1 unexpected parameters, the first projection\.weight"):
        assemble(settings(text), {"text": folder}, None)
    path = folder / "2_Dense" / "config.json"
    path.write_text(path.read_text().replace("Identity", "Tanh"))
    with pytest.raises(InputError, match=r"activation_function: .*Tanh"):
        assemble(settings(text, head={"projection": 16}), {"text": folder}, None)
