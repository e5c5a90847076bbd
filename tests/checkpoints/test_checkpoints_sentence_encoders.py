"""Sentence encoders against sentence-transformers: its vectors from the same folder, and from that which Parakit writes."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import parakit
from parakit.checkpoints.import_export import export_model, import_model
from parakit.checkpoints.loading import load_model, parameter_counts, read_head
from parakit.checkpoints.model_folder import save_model
from parakit.common.artifacts import Lineage
from parakit.common.errors import UserError
from parakit.data.examples import iter_examples, prepare_examples
from parakit.model.config import DecoderConfig, DenseConfig, EmbedderConfig
from parakit.model.heads import Embedder
from parakit.model.layers.pooling import pool
from parakit.stages.config import FinetuneConfig
from parakit.stages.data import make_example_shards
from parakit.stages.finetuning import FinetuneJob
from parakit.stages.task_models import task_model
from parakit.tokens.examples.shards import ExampleShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from tests.checkpoints.architectures.published_folders import CHATML, tiny_tokenizer_json

sentence_transformers = pytest.importorskip("sentence_transformers")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")

TEXTS = ["The capital of France is Paris.", "low", "NEW and newer, lower lowest 123 " * 3]
PROMPTS = {"query": "the lower: ", "document": ""}
POOLINGS = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
WIDTH = 16
BERT = {
    **{"vocab_size": 200, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"intermediate_size": 24, "max_position_embeddings": 64},
}
DECODER = {
    **{"vocab_size": 300, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 24, "max_position_embeddings": 64},
}
# class of transformers -> its settings
TRUNKS = {
    "BertModel": BERT,
    "BertForMaskedLM": BERT,
    "MPNetForMaskedLM": BERT,
    "XLMRobertaModel": BERT,
    "T5EncoderModel": {
        **{"vocab_size": 200, "d_model": WIDTH, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2},
        **{"feed_forward_proj": "gated-gelu"},
    },
    "Qwen3ForCausalLM": DECODER | {"tie_word_embeddings": True},
    "LlamaForCausalLM": DECODER | {"tie_word_embeddings": False},
    "Gemma3TextModel": DECODER
    | {
        **{"use_bidirectional_attention": True, "sliding_window": 8, "query_pre_attn_scalar": 8},
        **{"layer_types": ["sliding_attention", "full_attention"]},
    },
}


def tokenizer_of(trunk: str, **settings):
    """A published tokenizer: BERT's, or a byte BPE that puts EOS after a text, as Qwen3-Embedding's."""
    from tokenizers import Tokenizer, processors

    if is_decoder(trunk):
        backend = Tokenizer.from_str(tiny_tokenizer_json("byte_bpe"))
        backend.post_processor = processors.TemplateProcessing(
            single="$A <|endoftext|>", pair="$A $B <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
        )
        names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "padding_side": "left"}
        names["chat_template"] = CHATML
    else:
        backend = Tokenizer.from_str(tiny_tokenizer_json("bert"))
        names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names, **settings)


def is_decoder(trunk: str) -> bool:
    return "head_dim" in TRUNKS[trunk]


def trunks(*quick: str) -> list:
    """All of them; those that are not quick are for the long run."""
    return [trunk if trunk in quick else pytest.param(trunk, marks=pytest.mark.long) for trunk in TRUNKS]


@cache
def trunk_model(trunk: str):
    torch.manual_seed(3)
    cls = getattr(transformers, trunk)
    model = cls(cls.config_class(**TRUNKS[trunk], pad_token_id=1 if trunk[0] in "MX" else 0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def published(
    path: Path, trunk: str, pooling="mean", dense=(), normalize=True, limit=None, lower=False, **tokenizer
) -> Path:
    """A folder as sentence-transformers writes it, whose config.json names the class `trunk`."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    trunk_model(trunk).save_pretrained(path / "trunk")
    tokenizer_of(trunk, **tokenizer).save_pretrained(path / "trunk")
    pooling = {"pooling_mode": pooling} if not isinstance(pooling, dict) else pooling
    modules = [Transformer(str(path / "trunk")), Pooling(WIDTH, **pooling)]
    torch.manual_seed(4)
    for settings in dense:
        modules.append(Dense(**settings))
    modules += [Normalize()] * normalize
    SentenceTransformer(modules=modules, prompts=PROMPTS, device="cpu").save(str(path / "f"))
    (path / "f" / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": limit, "do_lower_case": lower})
    )
    trunk_model(trunk).save_pretrained(path / "f")  # with the head, under the class's name
    return path / "f"


def reference(folder: Path, texts=TEXTS, **settings) -> np.ndarray:
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    return model.encode(list(texts), **settings)


def assert_equal_vectors(folder: Path, tmp_path: Path, texts=TEXTS, **settings) -> None:
    """Parakit's vectors of the folder, and sentence-transformers' of the folder that Parakit writes."""
    expected = reference(folder, texts, **settings)
    import_model(str(folder), tmp_path / "imported")
    found = parakit.load(tmp_path / "imported", device="cpu").embed(list(texts), **settings)
    assert np.abs(found - expected).max() <= 1e-5
    export_model(tmp_path / "imported", tmp_path / "exported")
    assert np.abs(reference(tmp_path / "exported", texts, **settings) - expected).max() <= 1e-5


@pytest.mark.parametrize("trunk", trunks("Qwen3ForCausalLM", "BertForMaskedLM"))
def test_modules_json_decides_the_head_of_any_architecture(tmp_path, trunk):
    folder = published(tmp_path, trunk, "lasttoken" if "CausalLM" in trunk else "mean")
    assert json.loads((folder / "config.json").read_text())["architectures"] == [trunk]
    assert_equal_vectors(folder, tmp_path)


@pytest.mark.parametrize("n_prompt", [0, 2])
@pytest.mark.parametrize("hf_name", [*POOLINGS, ("weightedmean", "cls"), ("max", "mean")])
def test_pooling_is_that_of_sentence_transformers(hf_name, n_prompt):
    """With padding on the right, on both sides and on the left, where the longest row has none."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    torch.manual_seed(1)
    hidden = torch.randn(4, 6, 5)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0]])
    modules = Pooling(5, hf_name, include_prompt=False)
    features = {"token_embeddings": hidden, "attention_mask": mask, "prompt_length": n_prompt}
    names = (hf_name,) if isinstance(hf_name, str) else hf_name
    found = pool(hidden, mask.bool(), tuple(POOLINGS[name] for name in names), n_prompt)
    assert torch.allclose(found, modules(features)["sentence_embedding"], atol=1e-6)


@pytest.mark.parametrize(
    ("trunk", "hf_name"),
    [
        ("BertModel", ("weightedmean", "cls")),
        *(
            pytest.param("BertModel", hf_name, marks=pytest.mark.long)
            for hf_name in (*POOLINGS, ("max", "mean"))
        ),
        *(pytest.param("Qwen3ForCausalLM", hf_name, marks=pytest.mark.long) for hf_name in POOLINGS),
    ],
)
def test_every_pooling(tmp_path, trunk, hf_name):
    folder = published(tmp_path, trunk, hf_name, normalize=False)
    names = (hf_name,) if isinstance(hf_name, str) else hf_name
    assert read_head(folder).pooling.poolings == tuple(POOLINGS[name] for name in names)
    assert_equal_vectors(folder, tmp_path)
    model, tokenizer = load_model(folder)
    del model._publisher  # so that the files are Parakit's own
    save_model(model, tokenizer, tmp_path / "own", Lineage("model"))
    assert np.abs(reference(tmp_path / "own") - reference(folder)).max() <= 1e-5
    assert read_head(tmp_path / "own") == read_head(folder)


DENSE = [
    {"in_features": WIDTH, "out_features": 24},
    {"in_features": 24, "out_features": 10, "bias": False, "activation_function": torch.nn.Identity()},
]


@pytest.mark.parametrize(
    "trunk", ["Gemma3TextModel", pytest.param("MPNetForMaskedLM", marks=pytest.mark.long)]
)
def test_dense_layers(tmp_path, trunk):
    folder = published(tmp_path, trunk, dense=DENSE)
    assert_equal_vectors(folder, tmp_path)
    pooling = read_head(tmp_path / "imported").pooling
    assert pooling.dense == (
        DenseConfig(d_output=24),
        DenseConfig(d_output=10, activation="identity", bias=False),
    )
    dense = sum(n for name, n in parameter_counts(folder).items() if name == "embedder")
    assert dense == 16 * 24 + 24 + 24 * 10
    for path in folder.rglob("*.json"):
        name = path.relative_to(folder).as_posix()
        if name not in ("tokenizer.json", "config.json"):
            assert json.loads(path.read_text()) == json.loads((tmp_path / "exported" / name).read_text()), (
                name
            )


def test_a_residual_dense_layer_behind_several_poolings(tmp_path):
    dense = [{"in_features": 2 * WIDTH, "out_features": 8, "use_residual": True}]
    dense.append(
        {"in_features": 8, "out_features": 8, "use_residual": True, "activation_function": torch.nn.GELU()}
    )
    folder = published(tmp_path, "BertModel", ("mean", "cls"), dense=dense, normalize=False)
    assert_equal_vectors(folder, tmp_path)
    model, tokenizer = load_model(folder)
    del model._publisher
    save_model(model, tokenizer, tmp_path / "own", Lineage("model"))
    assert np.abs(reference(tmp_path / "own") - reference(folder)).max() <= 1e-5
    with pytest.raises(UserError, match="gives 1 vectors, and the model's dense layers take 2"):
        parakit.load(folder, device="cpu").embed(TEXTS, pooling="cls")


def test_an_embedder_is_trained_through_its_dense_layers(tmp_path):
    folder = published(tmp_path, "BertModel", dense=DENSE)
    base, tokenizer = load_model(folder)
    assert task_model(base, FinetuneConfig.parse({"task": "embed"})) is base
    model = task_model(base, FinetuneConfig.parse({"task": "embed", "pooling": "cls"}))
    assert torch.equal(model.dense_layers[0].linear.weight, base.dense_layers[0].linear.weight)
    ids = torch.tensor([[2, 9, 10, 3]])
    model.train()(ids).sum().backward()
    assert all(layer.linear.weight.grad.abs().max() > 0 for layer in model.dense_layers)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05
    save_model(model.eval(), tokenizer, tmp_path / "m", Lineage("model"))
    found = parakit.load(tmp_path / "m", device="cpu").embed(TEXTS)
    assert np.abs(reference(tmp_path / "m") - found).max() <= 1e-5
    assert read_head(tmp_path / "m").pooling == base.pooling.replace(pooling="cls")


@pytest.mark.parametrize(("trunk", "side"), [("BertModel", "right"), ("Qwen3ForCausalLM", "left")])
def test_texts_are_cut_where_the_publisher_cuts_them(tmp_path, trunk, side, capsys):
    folder = published(tmp_path, trunk, "lasttoken", limit=7, truncation_side=side)
    assert_equal_vectors(folder, tmp_path)
    assert "2 of 3 texts are longer than 7 tokens and are cut there" in capsys.readouterr().err
    with pytest.raises(UserError, match="holds 7"):
        parakit.load(folder, device="cpu").embed(TEXTS, too_long="refuse")


def test_the_tokenizers_limit_counts_where_there_is_no_other(tmp_path):
    folder = published(tmp_path, "BertModel", model_max_length=9)
    assert read_head(folder).pooling.max_seq_len == 9
    assert_equal_vectors(folder, tmp_path)


def test_texts_are_lowercased_first(tmp_path):
    folder = published(tmp_path, "Qwen3ForCausalLM", lower=True)
    texts = ["NEW And Lower", "new and lower", "ΟΔΟΣ ẞ İ"]
    assert_equal_vectors(folder, tmp_path, texts)
    found = parakit.load(folder, device="cpu").embed(texts)
    assert np.array_equal(found[0], found[1])


@pytest.mark.parametrize(("trunk", "include_prompt"), [("BertModel", False), ("Qwen3ForCausalLM", True)])
def test_prompts(tmp_path, trunk, include_prompt):
    pooling = {"pooling_mode": ("weightedmean", "cls"), "include_prompt": include_prompt}
    folder = published(tmp_path, trunk, pooling)
    assert_equal_vectors(folder, tmp_path, prompt_name="query")
    model = parakit.load(folder, device="cpu")
    assert np.abs(model.embed(TEXTS, prompt="new ") - reference(folder, prompt="new ")).max() <= 1e-5
    assert not np.allclose(model.embed(TEXTS), model.embed(TEXTS, prompt_name="query"), atol=1e-3)
    with pytest.raises(UserError, match="no prompt 'qeury'") as error:
        model.embed(TEXTS, prompt_name="qeury")
    assert "did you mean 'query'" in str(error.value.hint)


def test_a_default_prompt_and_shorter_vectors(tmp_path):
    folder = published(tmp_path, "BertModel")
    path = folder / "config_sentence_transformers.json"
    settings = json.loads(path.read_text()) | {"default_prompt_name": "query", "truncate_dim": 5}
    path.write_text(json.dumps(settings))
    assert_equal_vectors(folder, tmp_path)
    assert reference(folder).shape == (3, 5)
    assert json.loads((tmp_path / "exported" / path.name).read_text()) == settings
    path.write_text(json.dumps(settings | {"default_prompt_name": "qeury"}))
    with pytest.raises(UserError, match="default_prompt = 'qeury'"):
        read_head(folder)


def test_prompts_in_the_command(tmp_path, capsys):
    from parakit.cli.main import main

    folder = published(tmp_path, "BertModel")
    words = ["predict", str(folder), "--text", TEXTS[0], "--device", "cpu", "--json"]
    assert main([*words, "--prompt-name", "query"]) == 0
    vector = json.loads(capsys.readouterr().out)["vector"]
    assert np.abs(np.array(vector) - reference(folder, TEXTS[:1], prompt_name="query")[0]).max() <= 1e-5
    assert main([*words, "--prompt-name", "documents"]) == 2
    assert "document" in capsys.readouterr().err


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS.values())
def test_padding_on_either_side_gives_equal_vectors(pooling):
    torch.manual_seed(0)
    shape = DecoderConfig(vocab_size=20, d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8)
    model = Embedder(shape, EmbedderConfig(pooling=pooling)).eval()
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter))
    ids, n = torch.randint(20, (3, 7)), torch.tensor([7, 4, 1])
    right = torch.arange(7) < n[:, None]
    moved = torch.stack([row.roll(7 - int(count)) for row, count in zip(ids, n, strict=True)])
    expected = torch.cat([model(row[None, :count]) for row, count in zip(ids, n.tolist(), strict=True)])
    assert (model(ids, attention_mask=right) - expected).abs().max() < 1e-5
    assert (model(moved, attention_mask=right.flip(1)) - expected).abs().max() < 1e-5


def test_half_precision_is_summed_in_float32():
    hidden = torch.full((1, 3000, 1), 1.0, dtype=torch.bfloat16)
    for pooling in ("mean", "weighted_mean"):
        assert pool(hidden, torch.ones(1, 3000, dtype=torch.bool), pooling).item() == 1.0


def test_weights_of_the_other_head_are_named(tmp_path):
    folder = published(tmp_path, "LlamaForCausalLM", "lasttoken")
    import_model(str(folder), tmp_path / "m")
    notes = json.loads((tmp_path / "m" / "lineage.json").read_text())["result"]["notes"]
    assert any("not kept: lm_head.weight" in note for note in notes)
    assert json.loads((tmp_path / "m" / "config.json").read_text())["architectures"] == ["LlamaModel"]


@pytest.mark.long
@pytest.mark.parametrize("function", [torch.nn.Identity(), torch.nn.Sigmoid()])
def test_a_cross_encoder_as_sentence_transformers_writes_it(tmp_path, function):
    torch.manual_seed(2)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**BERT, num_labels=1))
    model.save_pretrained(tmp_path / "trunk")
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer_of("BertModel", model_max_length=64, model_input_names=inputs).save_pretrained(
        tmp_path / "trunk"
    )
    cross = sentence_transformers.CrossEncoder(str(tmp_path / "trunk"), device="cpu", activation_fn=function)
    cross.save_pretrained(str(tmp_path / "f"))
    pairs = [("the capital", TEXTS[0]), ("lower", TEXTS[1])]
    expected = cross.predict(pairs)
    import_model(str(tmp_path / "f"), tmp_path / "m")
    found = parakit.load(tmp_path / "m", device="cpu").regress(pairs)
    assert np.abs(np.array(found) - expected).max() <= 1e-5
    export_model(tmp_path / "m", tmp_path / "g")
    for name in (
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "config.json",
    ):
        assert json.loads((tmp_path / "g" / name).read_text()) == json.loads(
            (tmp_path / "f" / name).read_text()
        )
    again = sentence_transformers.CrossEncoder(str(tmp_path / "g"), device="cpu")
    assert np.abs(again.predict(pairs) - expected).max() <= 1e-5


def test_pairs_are_encoded_for_tuning_as_the_embedder_reads_texts(tmp_path):
    folder = published(tmp_path, "BertModel", limit=12, lower=True)
    settings = json.loads((folder / "config_sentence_transformers.json").read_text())
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps(settings | {"prompts": PROMPTS, "default_prompt_name": "query"})
    )
    import_model(str(folder), tmp_path / "m")
    rows = [{"text": f"NEW and {n}", "positive": f"Lower {n} " * 9} for n in range(20)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare_examples([str(tmp_path / "pairs.jsonl")], "embed", tmp_path / "pairs")
    make_example_shards(tmp_path / "pairs", tmp_path / "m", tmp_path / "shards", "encoder")

    tokenizer = Tokenizer.load(tmp_path / "m")
    data = ExampleShards.open(tmp_path / "shards", "train")
    stored = next(iter(iter_examples(tmp_path / "pairs", "train")))
    first = data.texts["text"]
    expected = tokenizer.encode(PROMPTS["query"] + stored["text"].lower())
    assert first.token_ids[: first.offsets[1]].tolist() == expected != tokenizer.encode(stored["text"])

    job = FinetuneJob(
        tmp_path / "m", tmp_path / "shards", tmp_path / "work", FinetuneConfig(task="embed", max_steps=1)
    )
    (tmp_path / "run").mkdir()
    assert job.prepare(tmp_path / "run").setup.plan.seq_len == 12
