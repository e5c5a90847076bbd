"""Folder -> Parakit -> folder: every file of a published model is as it was, and what training changes is all that
changes.
"""

import json
from pathlib import Path

import pytest
import torch

from parakit.checkpoints import load_model, save_model
from parakit.checkpoints.import_export import export_model, import_model
from parakit.common import Lineage
from parakit.stages.config import FinetuneConfig
from parakit.stages.task_models import task_model
from tests.checkpoints.architectures import published_folders as folders
from tests.checkpoints.architectures.published_configs import PUBLISHED
from tests.checkpoints.conformance import tensors_of

QUICK = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": folders.SMOLLM2,
    "Qwen/Qwen2.5-0.5B-Instruct": folders.QWEN,
    "openai-community/gpt2": folders.GPT2,
    "google-bert/bert-base-uncased": folders.BERT,
    "mistralai/Mistral-7B-Instruct-v0.3": folders.SMOLLM2,
    "facebook/bart-large-cnn": folders.GPT2,
}
LONG = {
    **dict.fromkeys(("meta-llama/Llama-3.1-8B-Instruct", "unsloth/Llama-3.2-1B-Instruct"), folders.SMOLLM2),
    **dict.fromkeys(("lmsys/vicuna-7b-v1.5-16k", "huggyllama/llama-7b"), folders.SMOLLM2),
    **dict.fromkeys(("Qwen/Qwen2.5-7B-Instruct-1M", "Qwen/Qwen3-Coder-30B-A3B-Instruct"), folders.QWEN),
    **dict.fromkeys(("mistralai/Mixtral-8x22B-v0.1", "intfloat/e5-mistral-7b-instruct"), folders.SMOLLM2),
    **dict.fromkeys(("microsoft/DialoGPT-medium", "cerebras/Cerebras-GPT-111M"), folders.GPT2),
    **dict.fromkeys(("dslim/bert-base-NER", "cross-encoder/ms-marco-MiniLM-L6-v2"), folders.BERT),
    **dict.fromkeys(("BAAI/bge-small-en-v1.5", "ProsusAI/finbert", "prajjwal1/bert-tiny"), folders.BERT),
    **dict.fromkeys(("answerdotai/ModernBERT-base", "google/flan-t5-base"), folders.GPT2),
    **dict.fromkeys(("google-t5/t5-small", "Helsinki-NLP/opus-mt-en-de"), folders.GPT2),
}
WITH_POOLER = ("google-bert/bert-base-uncased", "BAAI/bge-small-en-v1.5")
# differences that are allowed: files that Parakit adds, and a template in a file of its own
ADDED_FILES = {"generation_config.json", "chat_template.jinja", "modules.json"}
MOVED_KEYS = {"chat_template"}
ADDED_KEYS = {"architectures"}  # where config.json names no class


def content(folder: Path, name: str):
    return json.loads((folder / name).read_text())


def assert_same_files(before: Path, after: Path) -> None:
    names = {path.name for path in after.iterdir() if path.is_file()} - {"lineage.json", "manifest.json"}
    published = {path.name for path in before.iterdir()}
    assert published <= names
    assert names - published <= ADDED_FILES
    for name in published - {"model.safetensors"}:
        first, second = content(before, name), content(after, name)
        moved = MOVED_KEYS if name == "tokenizer_config.json" else set()
        added = ADDED_KEYS - first.keys() if name == "config.json" else set()
        second = {k: v for k, v in second.items() if k not in added}
        assert {k: v for k, v in first.items() if k not in moved} == second, name
        for key in moved & first.keys():
            assert (after / "chat_template.jinja").read_text() == first[key]
    old, new = tensors_of(before), tensors_of(after)
    assert old.keys() == new.keys()
    assert all(torch.equal(tensor, new[key]) for key, tensor in old.items())


@pytest.mark.parametrize(
    ("name", "tokenizer"),
    [*QUICK.items(), *(pytest.param(*case, marks=pytest.mark.long) for case in LONG.items())],
)
def test_every_file_is_as_it_was_published(tmp_path, name, tokenizer):
    folder = folders.published_folder(tmp_path / "f", name, tokenizer, name in WITH_POOLER)
    import_model(str(folder), tmp_path / "imported")
    assert_same_files(folder, tmp_path / "imported")
    export_model(tmp_path / "imported", tmp_path / "exported")
    assert_same_files(folder, tmp_path / "exported")


def test_generation_keys_of_an_older_config_are_in_both_files(tmp_path):
    folder = folders.published_folder(tmp_path / "f", "facebook/bart-large-cnn", folders.GPT2)
    import_model(str(folder), tmp_path / "m")
    written = content(tmp_path / "m", "generation_config.json")
    expected = {"num_beams": 4, "length_penalty": 2.0, "min_length": 56, "no_repeat_ngram_size": 3}
    assert expected.items() <= written.items()
    assert {"eos_token_id": 2, "pad_token_id": 1, "forced_bos_token_id": 0}.items() <= written.items()


def test_a_model_that_is_trained_on_keeps_the_rest(tmp_path):
    """Another dropout makes a new model of the same kind; the dtype is the only thing that the files then say anew."""
    folder = folders.published_folder(tmp_path / "f", "Qwen/Qwen2.5-0.5B-Instruct", folders.QWEN)
    base, tokenizer = load_model(folder)
    model = task_model(base, FinetuneConfig.parse({"task": "chat", "dropout": 0.25}))
    assert model is not base
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    save_model(model, tokenizer, tmp_path / "m", Lineage("model"), dtype="float16")
    for name in ("generation_config.json", "special_tokens_map.json"):
        assert content(folder, name) == content(tmp_path / "m", name)
    before, after = content(folder, "config.json"), content(tmp_path / "m", "config.json")
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed == {"dtype", "torch_dtype"}
    assert content(tmp_path / "m", "tokenizer_config.json")["model_max_length"] == 131072


def test_a_new_stop_token_is_added_to_the_published_ones(tmp_path):
    name = "Qwen/Qwen2.5-0.5B-Instruct"
    model, tokenizer = load_model(folders.published_folder(tmp_path / "f", name, folders.QWEN))
    tokenizer.special.strings["eos"] = "<|im_start|>"  # id 1, and published are 2 and 0
    save_model(model, tokenizer, tmp_path / "m", Lineage("model"))
    assert content(tmp_path / "m", "generation_config.json")["eos_token_id"] == [2, 0, 1]
    assert content(tmp_path / "m", "config.json")["eos_token_id"] == 1


@pytest.mark.parametrize("name", ["openai-community/gpt2", "HuggingFaceTB/SmolLM2-135M-Instruct"])
def test_a_classifier_on_a_decoder_takes_batches_in_transformers(tmp_path, name):
    """No PAD at all (GPT-2), or one that is EOS: both leave Parakit without a PAD of its own."""
    import transformers

    tokenizer_config = folders.GPT2 if "gpt2" in name else folders.SMOLLM2
    base, tokenizer = load_model(folders.published_folder(tmp_path / "f", name, tokenizer_config))
    model = task_model(base, FinetuneConfig.parse({"task": "classify"}), ["no", "yes"])
    with torch.no_grad():
        for parameter in model.label_head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    save_model(model, tokenizer, tmp_path / "m", Lineage("model"))
    classifier = transformers.AutoModelForSequenceClassification
    reference = classifier.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
    batched = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    texts = ["The capital of France is Paris.", "low"]
    encoded = batched(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        got = torch.cat([model(torch.tensor([tokenizer.encode(text)])) for text in texts])
        assert (reference(**encoded).logits - got).abs().max() < 1e-5
    assert reference.config.id2label == {0: "no", 1: "yes"}
    assert content(tmp_path / "m", "config.json")["architectures"] == [type(reference).__name__]


def test_a_classifier_on_bert_begins_with_the_published_pooler(tmp_path):
    name = "google-bert/bert-base-uncased"
    folder = folders.published_folder(tmp_path / "f", name, folders.BERT, pooler=True)
    base, tokenizer = load_model(folder)
    model = task_model(base, FinetuneConfig.parse({"task": "classify"}), ["no", "yes"])
    pooler = tensors_of(folder)["bert.pooler.dense.weight"]
    assert torch.equal(model.state_dict()["dense.0.weight"], pooler)
    save_model(model, tokenizer, tmp_path / "m", Lineage("model"))
    assert torch.equal(tensors_of(tmp_path / "m")["bert.pooler.dense.weight"], pooler)
    embedder = task_model(base, FinetuneConfig.parse({"task": "embed"}))
    save_model(embedder, tokenizer, tmp_path / "e", Lineage("model"))
    assert torch.equal(tensors_of(tmp_path / "e")["pooler.dense.weight"], pooler)
    assert content(tmp_path / "e", "config.json")["architectures"] == ["BertModel"]


def test_files_of_sentence_transformers_are_kept(tmp_path):
    """Another pooling writes its own; prompts and the length of a text stay."""
    folder = folders.published_folder(tmp_path / "f", "BAAI/bge-small-en-v1.5", folders.BERT)
    names = ("Transformer", "Pooling", "Normalize")
    paths = ("", "1_Pooling", "2_Normalize")
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (name, path) in enumerate(zip(names, paths, strict=True))
    ]
    pooling = {
        "word_embedding_dimension": 16,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": True},
        "config_sentence_transformers.json": {"prompts": {"query": "Represent this: "}},
    }
    (folder / "1_Pooling").mkdir()
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    import_model(str(folder), tmp_path / "m")
    assert {name: content(tmp_path / "m", name) for name in files} == files
    base, tokenizer = load_model(tmp_path / "m")
    model = task_model(base, FinetuneConfig.parse({"task": "embed", "pooling": "mean"}))
    save_model(model, tokenizer, tmp_path / "mean", Lineage("model"))
    assert content(tmp_path / "mean", "1_Pooling/config.json")["pooling_mode_mean_tokens"] is True
    for name in ("sentence_bert_config.json", "config_sentence_transformers.json"):
        assert content(tmp_path / "mean", name) == files[name]


def test_the_data_covers_the_architectures():
    types = {PUBLISHED[name]["model_type"] for name in QUICK | LONG}
    assert {
        "llama",
        "mistral",
        "qwen2",
        "qwen3_moe",
        "mixtral",
        "gpt2",
        "bert",
        "bart",
        "t5",
        "marian",
    } <= types


@pytest.mark.long
def test_a_real_sentence_encoder_comes_back_file_by_file(published_model, tmp_path):
    folder = published_model("minilm")
    import_model(str(folder), tmp_path / "m")
    export_model(tmp_path / "m", tmp_path / "e")
    kept = [
        path for path in folder.rglob("*.json") if path.name not in ("data_config.json", "tokenizer.json")
    ]
    assert len(kept) >= 7
    for path in kept:
        name = path.relative_to(folder).as_posix()
        assert content(tmp_path / "e", name) == content(folder, name), name
    old, new = tensors_of(folder), tensors_of(tmp_path / "e")
    assert old.keys() - new.keys() <= {"embeddings.position_ids"}
    assert all(torch.equal(tensor, old[key]) for key, tensor in new.items())
