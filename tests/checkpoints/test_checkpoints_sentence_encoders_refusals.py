"""What the files of a sentence encoder say and Parakit does not do is refused by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from parakit.checkpoints.loading import load_model, read_head
from parakit.checkpoints.model_folder import save_model
from parakit.common.artifacts import Lineage
from parakit.common.errors import UserError
from parakit.model.config import DecoderConfig, DenseConfig, EmbedderConfig
from parakit.model.heads import Embedder

MODULES = [("", "Transformer"), ("1_Pooling", "Pooling")]
BAD = {
    "an LSTM": ("modules.json", [*MODULES, ("2_LSTM", "LSTM")], "Transformer, Pooling, LSTM"),
    "a CNN": ("modules.json", [MODULES[0], ("1_CNN", "CNN"), ("2_Pooling", "Pooling")], "CNN"),
    "word vectors": ("modules.json", [("", "WordEmbeddings"), MODULES[1]], "WordEmbeddings"),
    "a router": ("modules.json", [("", "Router"), MODULES[1]], "Router"),
    "no pooling": ("modules.json", [("", "Transformer")], "modules Transformer\n"),
    "a folder outside": ("modules.json", [MODULES[0], ("../1_Pooling", "Pooling")], r"path '\.\./1_Pooling'"),
    "a model elsewhere": ("modules.json", [("0_Transformer", "Transformer"), MODULES[1]], "0_Transformer"),
    "another pooling": ("1_Pooling/config.json", {"pooling_mode": ["mean", "median"]}, "mean, median"),
    "another task": ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "'fill-mask'"),
    "query expansion": ("sentence_bert_config.json", {"query_expansion": {"length": 32}}, "query_expansion"),
    "no limit": ("sentence_bert_config.json", {"max_seq_length": -1}, "max_seq_len"),
    "prompts": ("config_sentence_transformers.json", {"prompts": ["query"]}, "`prompts` is"),
    "a function": (
        "2_Dense/config.json",
        {"activation_function": "torch.nn.modules.activation.Mish"},
        "Mish",
    ),
    "another input": ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "token_embeddings"),
    "another width": ("2_Dense/config.json", {"in_features": 17}, "17, and its input has 16"),
}


@pytest.fixture(scope="module")
def with_dense(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dense") / "m"
    shape = DecoderConfig(vocab_size=20, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=8)
    model = Embedder(shape, EmbedderConfig(dense=(DenseConfig(d_output=4),)))
    return save_model(model, None, folder, Lineage("model"))


@pytest.mark.parametrize(("file", "value", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_honoured_is_refused_by_name(with_dense, tmp_path, file, value, message):
    folder = Path(shutil.copytree(with_dense, tmp_path / "m"))
    if file == "modules.json":
        value = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in value]
    elif (folder / file).is_file():
        value = json.loads((folder / file).read_text()) | value
    (folder / file).write_text(json.dumps(value))
    with pytest.raises(UserError, match=message):
        read_head(folder)


def test_weights_of_a_dense_layer_that_do_not_fit(with_dense, tmp_path):
    folder = Path(shutil.copytree(with_dense, tmp_path / "m"))
    weights = folder / "2_Dense" / "model.safetensors"
    save_file({"linear.weight": torch.zeros(4, 15), "linear.bias": torch.zeros(4)}, weights)
    with pytest.raises(UserError, match=r"linear.weight \(4, 15\), and its config.json asks for"):
        load_model(folder, verify=False)
    weights.unlink()
    with pytest.raises(UserError, match="no such file"):
        load_model(folder, verify=False)
