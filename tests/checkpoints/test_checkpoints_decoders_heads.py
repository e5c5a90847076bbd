"""Heads on decoders: classifiers of texts and of tokens, reward models and bare trunks, as transformers has them."""

import json

import pytest
import torch
from safetensors.torch import save_file

from parakit.checkpoints import load_model, parameter_counts, read_head, save_model
from parakit.checkpoints.mapping import Head
from parakit.checkpoints.registry import architecture_for
from parakit.common import Lineage, UserError
from parakit.model.config import ClassifierConfig, DecoderConfig, EmbedderConfig, EncoderConfig
from parakit.model.heads import Classifier, Embedder, LanguageModel, RewardModel
from tests.checkpoints.conformance import (
    assert_close,
    assert_round_trip,
    padding,
    random_ids,
    saved,
    tensors_of,
)
from tests.checkpoints.test_checkpoints_decoders import tiny

transformers = pytest.importorskip("transformers")

PREFIXES = ("GPT2", "Llama", "Mistral", "Qwen2", "Qwen3", "Mixtral")
LABELS = {"id2label": {0: "bad", 1: "fair", 2: "good"}, "label2id": {"bad": 0, "fair": 1, "good": 2}}


def padded_batch(side: str = "right") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids with padding (id 2), the mask, and positions."""
    mask = padding([15, 9, 4], side)
    return random_ids(97, 3, 15).masked_fill(~mask, 2), mask, (mask.cumsum(1) - 1).clamp(min=0)


def call(model) -> torch.Tensor:
    """transformers' logits of one text without padding, which needs no padding id."""
    return model(random_ids(97, 1, 15)).logits


def padded_call(model) -> torch.Tensor:
    """transformers' logits of a padded batch."""
    ids, mask, _ = padded_batch()
    return model(ids, attention_mask=mask.long()).logits


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_classifier_of_texts_reads_the_last_token(tmp_path, prefix):
    reference = tiny(prefix, LABELS, "ForSequenceClassification")
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    assert isinstance(model, Classifier)
    assert model.classes == ClassifierConfig(
        labels=("bad", "fair", "good"), pooling="last", head="linear", bias=False
    )
    with torch.no_grad():
        for side in ("right", "left"):
            ids, mask, position_ids = padded_batch(side)
            wanted = reference(ids, attention_mask=mask.long(), position_ids=position_ids).logits
            assert_close(model(ids, attention_mask=mask, position_ids=position_ids), wanted)
    assert_round_trip(reference, folder, tmp_path / "g", call)
    assert read_head(tmp_path / "g") == read_head(folder)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_classifier_of_tokens_has_a_bias(tmp_path, prefix):
    reference = tiny(prefix, LABELS, "ForTokenClassification")
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    assert isinstance(model, Classifier)
    assert (model.classes.level, model.classes.bias) == ("token", True)
    ids, mask, _ = padded_batch()
    with torch.no_grad():
        assert_close(model(ids, attention_mask=mask)[mask], padded_call(reference)[mask])
    assert_round_trip(reference, folder, tmp_path / "g", call)


@pytest.mark.parametrize("prefix", ["GPT2", "Llama"])
def test_one_label_is_a_reward_unless_the_folder_says_regression(tmp_path, prefix):
    reference = tiny(prefix, {"num_labels": 1}, "ForSequenceClassification")
    folder = saved(reference, tmp_path / "f")
    ids, mask, _ = padded_batch()
    model, _ = load_model(folder)
    assert isinstance(model, RewardModel)
    with torch.no_grad():
        assert_close(model(ids, attention_mask=mask), padded_call(reference)[:, 0])
    assert_round_trip(reference, folder, tmp_path / "g", call)
    reference.config.problem_type = "regression"
    model, _ = load_model(saved(reference, tmp_path / "r"))
    assert isinstance(model, Classifier)
    assert model.classes.regression
    assert_round_trip(reference, tmp_path / "r", tmp_path / "s", call)
    assert read_head(tmp_path / "s") == read_head(tmp_path / "r")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_bare_trunk_is_an_embedder(tmp_path, prefix):
    reference = tiny(prefix, {}, "Model")
    folder = saved(reference, tmp_path / "f")
    model, _ = load_model(folder)
    assert isinstance(model, Embedder)
    ids, mask, _ = padded_batch()
    with torch.no_grad():
        assert_close(model.trunk(ids), reference(ids).last_hidden_state)
        hidden = reference(ids, attention_mask=mask.long()).last_hidden_state
        last = hidden[torch.arange(3), mask.sum(1) - 1]
        assert_close(model(ids, attention_mask=mask), last / last.norm(dim=1, keepdim=True))
    assert_round_trip(reference, folder, tmp_path / "g", lambda m: m(ids).last_hidden_state)


def test_the_trunk_of_a_language_models_folder_can_be_taken_alone(tmp_path):
    reference = tiny("Llama", {"tie_word_embeddings": True})
    folder = saved(reference, tmp_path / "f")
    settings = json.loads((folder / "config.json").read_text()) | {"architectures": ["LlamaModel"]}
    (folder / "config.json").write_text(json.dumps(settings))
    tensors = tensors_of(folder)
    save_file(
        tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()},
        folder / "model.safetensors",
    )
    ids = random_ids(97, 2, 9)
    with torch.no_grad():
        assert_close(load_model(folder)[0].trunk(ids), reference.model(ids).last_hidden_state)


SHAPE = DecoderConfig(vocab_size=20, d_model=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalize", [True, False])
def test_pooling_is_kept_where_sentence_transformers_looks_for_it(tmp_path, pooling, normalize):
    wanted = EmbedderConfig(pooling=pooling, normalize=normalize)
    save_model(Embedder(SHAPE, wanted), None, tmp_path / "m", Lineage("model"))
    assert load_model(tmp_path / "m")[0].pooling == wanted
    pooling_config = json.loads((tmp_path / "m/1_Pooling/config.json").read_text())
    keys = {
        **{"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"},
        "last": "pooling_mode_lasttoken",
    }
    assert [key for key, value in pooling_config.items() if value is True] == [keys[pooling]]
    modules = json.loads((tmp_path / "m/modules.json").read_text())
    assert [m["type"].split(".")[-1] for m in modules][2:] == (["Normalize"] if normalize else [])


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode_new_tokens": True}, "pooling_mode_new_tokens"),
        ("modules.json", [{"type": "x.Transformer"}, {"type": "x.Pooling"}, {"type": "x.LSTM"}], "LSTM"),
        ("modules.json", {"type": "x"}, "not a list"),
        ("modules.json", [1, None], "modules"),
    ],
)
def test_an_unsupported_pooling_is_refused(tmp_path, file, value, message):
    save_model(Embedder(SHAPE, EmbedderConfig()), None, tmp_path / "m", Lineage("model"))
    (tmp_path / "m" / file).write_text(json.dumps(value))
    with pytest.raises(UserError, match=message):
        read_head(tmp_path / "m")


def test_parts_of_a_classifier_are_counted(tmp_path):
    classes = ClassifierConfig(labels=("a", "b"), pooling="last", head="linear", bias=False)
    save_model(Classifier(SHAPE, classes), None, tmp_path / "m", Lineage("model"))
    counts, whole = parameter_counts(tmp_path / "m"), SHAPE.n_params()
    assert counts["classifier"] == 2 * SHAPE.d_model
    assert {name: n for name, n in counts.items() if name not in ("classifier", "total")} == {
        name: n for name, n in whole.items() if name not in ("lm_head", "total")
    }


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"id2label": {"0": "a", "2": "c"}}, "id2label"),
        ({"id2label": ["a"]}, "id2label"),
        ({"id2label": {"0": "a"}, "num_labels": 3}, "`num_labels` is 3, and `id2label` names 1"),
        ({"id2label": None, "num_labels": 0}, "num_labels"),
        ({"problem_type": "ranking"}, "problem_type"),
        ({"architectures": ["LlamaForQuestionAnswering"]}, "architectures"),
        ({"architectures": "LlamaModel"}, "architectures"),
        ({"architectures": [{}]}, "architectures"),
        ({"id2label": {str(i): str(i) for i in range(5)}}, r"score.weight' has shape \(3, 32\).*\(5, 32\)"),
    ],
)
def test_labels_that_contradict_each_other_are_refused_by_name(tmp_path, labels, message):
    folder = saved(tiny("Llama", LABELS, "ForSequenceClassification"), tmp_path / "f")
    settings = json.loads((folder / "config.json").read_text()) | labels
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=message):
        load_model(folder)


def test_without_names_labels_are_numbered(tmp_path):
    folder = saved(tiny("Llama", {"num_labels": 2}, "ForSequenceClassification"), tmp_path / "f")
    head = read_head(folder)
    assert head.classes is not None
    assert head.classes.labels == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"attention_soft_cap": 30.0}, "attention_soft_cap = 30.0"),
        ({"logit_soft_cap": 30.0, "embedding_scale": 2.0}, "logit_soft_cap"),
        ({"post_norm": True}, "post_norm = True"),
        ({"n_experts": 4, "n_shared_experts": 1}, "n_shared_experts = 1, where it has 0"),
        ({"attention": "linear"}, "attention = 'linear'"),
        ({"positions": "sinusoidal"}, "positions"),
    ],
)
def test_an_unpublished_config_has_no_published_architecture_for_its_incompatible_settings(
    tmp_path, config, message
):
    shape = SHAPE.replace(**config)
    with pytest.raises(UserError, match=message):
        architecture_for(shape, Head("language_model"))
    save_model(LanguageModel(shape), None, tmp_path / "m", Lineage("model"))
    assert json.loads((tmp_path / "m/config.json").read_text())["model_type"] == "parakit"
    assert load_model(tmp_path / "m")[0].config == shape


def test_an_unpublished_head_is_refused(tmp_path):
    classes = ClassifierConfig(labels=("a", "b"), pooling="mean", head="linear", bias=False)
    model = Classifier(SHAPE, classes)
    with pytest.raises(UserError, match=r"classes.pooling = 'mean', where it has 'last'"):
        save_model(model, None, tmp_path / "m", Lineage("model"))
    reward = RewardModel(EncoderConfig.parse(SHAPE.model_dump() | {"query_key_norm": False}))
    with pytest.raises(UserError, match="gemma3_text comes closest"):  # the one encoder that scores texts so
        save_model(reward, None, tmp_path / "m", Lineage("model"))


@pytest.mark.parametrize(
    ("changes", "written_as"),
    [
        ({}, "qwen3"),
        ({"query_key_norm": False}, "llama"),
        ({"query_key_norm": False, "sliding_window": 8}, "mistral"),
        ({"query_key_norm": False, "attention_bias": True}, "qwen2"),
        ({"query_key_norm": False, "n_experts": 4}, "mixtral"),
        ({"n_experts": 4, "d_expert": 8, "balance_coef": 0.5}, "qwen3_moe"),
        ({"sliding_window": 8, "local_layers": (0,), "dropout": 0.1}, "qwen3"),
        ({"rope_scaling": {"kind": "ntk", "factor": 4.0}}, "qwen3"),
    ],
)
def test_own_configs_are_saved_as_the_plainest_architecture(tmp_path, changes, written_as):
    config = DecoderConfig.parse(SHAPE.model_dump() | changes)
    found = architecture_for(config, Head("language_model")).MODEL_TYPE
    assert found == written_as
    model = LanguageModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    save_model(model, None, tmp_path / "m", Lineage("model"))
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m").eval()
    ids = random_ids(20, 2, 12)
    with torch.no_grad():
        assert_close(model(ids), reference(ids).logits)
        assert torch.equal(load_model(tmp_path / "m")[0](ids), model(ids))
