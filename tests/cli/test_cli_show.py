"""`parakit show` tells what a folder is and where it came from, and is not fooled by what it reads."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from parakit.cli.rendering.show_details import describe
from parakit.cli.show import main
from parakit.cli.text import main as prepare
from parakit.common import CorruptArtifact, Lineage, UserError, writing_artifact


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A build as the stages write it, with a model of random weights."""
    import torch

    from parakit.checkpoints import save_model
    from parakit.data.config import TextConfig
    from parakit.data.corpus import iter_corpus, prepare_corpus
    from parakit.model.config import DecoderConfig
    from parakit.model.heads import LanguageModel
    from parakit.tokens import TokenizerConfig, train_tokenizer, write_shards

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    root = tmp_path_factory.mktemp("show")
    for i in range(60):
        folder = root / "text"
        folder.mkdir(exist_ok=True)
        (folder / f"{i}.txt").write_text(
            f"The parrot number {i} said: it is {i * i} o'clock, [bold]friend[/bold]. \x1b[31m"
        )
    build = root / "build"
    prepare_corpus(TextConfig(paths=(str(root / "text"),)), build / "corpus")
    lineage = Lineage("tokenizer", {"kind": "byte_bpe"}, [build / "corpus"], result={"bytes_per_token": 3.5})
    tokenizer = train_tokenizer(
        (d.text for d in iter_corpus(build / "corpus", "train")), TokenizerConfig(vocab_size=300)
    )
    with writing_artifact(build / "tokenizer", lineage) as out:
        tokenizer.save(out)
    splits = {"train": iter_corpus(build / "corpus", "train")}
    write_shards(splits, tokenizer, build / "shards", [build / "corpus", build / "tokenizer"])
    shape = {
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
        "n_kv_heads": 1,
        "head_dim": 8,
        "d_ff": 24,
        "max_seq_len": 32,
    }
    model = LanguageModel(DecoderConfig(vocab_size=tokenizer.vocab_size, **shape))
    result = {"bits_per_byte": 1.234, "samples": [{"prompt": "The", "completion": " parrot"}]}
    made = Lineage("model", {"stage": "pretrain", "chat": False}, [build / "shards"], 7, result)
    save_model(model, tokenizer, build / "pretrain", made, card="# card\n")
    suites = {"facts": {"base": {"accuracy": 0.25, "low": 0.2, "high": 0.31, "n": 250}}}
    with writing_artifact(build / "evaluate", Lineage("evaluation", parents=[build / "pretrain"])) as out:
        row = {"name": "book.txt", "model": "base", "bits_per_byte": 2.5, "perplexity": 9.0, "n_bytes": 100}
        (out / "results.json").write_text(json.dumps({"suites": suites, "evaluations": [row]}))
    return build


@pytest.mark.parametrize(
    ("folder", "output"),
    [
        ("corpus", ["60 documents", "train", "parrot number", "deduplicate"]),
        ("tokenizer", ["byte_bpe", "3.5", "<|bos|>", "special tokens", "corpus"]),
        ("shards", ["tokens", "uint16", "train", "bytes per token"]),
        (
            "pretrain",
            [
                "a decoder of",
                "that predicts the next token",
                "qwen3 (Qwen3ForCausalLM)",
                "KV cache per token",
                "<|mask|>",
                "1.23",
                "feed forward",
                "d_model",
                "The → parrot",
                "seed",
                "shards",
                "tokenizer",
            ],
        ),
        ("evaluate", ["facts", "25.0%", "book.txt", "2.5", "lineage", "model"]),
        (".", ["a build with 5 artifacts", "pretrain", "shards"]),
    ],
)
def test_every_kind_of_folder_says_what_it_is(build, capsys, monkeypatch, folder, output):
    monkeypatch.setenv("COLUMNS", "200")
    assert main([str(build / folder)]) == 0
    shown = capsys.readouterr().out
    for words in output:
        assert words in shown, words


def test_the_lineage_is_followed_to_the_text(build):
    found = describe(build / "evaluate")
    model = found["lineage"]["parents"][0]
    shards = model["parents"][0]
    assert [model["kind"], shards["kind"]] == ["model", "shards"]
    assert sorted(parent["kind"] for parent in shards["parents"]) == ["corpus", "tokenizer"]
    assert found["intact"] is True


def test_json_is_one_object_and_counts_agree_with_the_shape(build, capsys):
    assert main([str(build / "pretrain"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    parts = {row["part"]: row["parameters"] for row in found["figures"]["parameters"]}
    assert parts.pop("total") == sum(parts.values())
    assert found["figures"]["architecture"]["n_layers"] == 2
    assert {"config.json", "model.safetensors", "README.md"} <= {file["name"] for file in found["files"]}


def test_a_mixture_of_experts_tells_what_is_in_use_and_what_it_takes(tmp_path, capsys):
    import torch

    from parakit.checkpoints import save_model
    from parakit.model.config import DecoderConfig
    from parakit.model.heads import LanguageModel

    shape = {
        "vocab_size": 50,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
        "n_kv_heads": 1,
        "head_dim": 8,
        "d_ff": 24,
    }
    config = DecoderConfig(**shape, max_seq_len=32, n_experts=4, n_active_experts=1)
    save_model(LanguageModel(config), None, tmp_path / "m", Lineage("model"), dtype=torch.bfloat16)
    assert main([str(tmp_path / "m"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    total = next(row["parameters"] for row in figures["parameters"] if row["part"] == "total")
    in_use = figures["model"]["active parameters per token"]
    assert total - in_use == 2 * 3 * 3 * 16 * 24  # layers, idle experts, matrices
    memory = {row["what"]: (row["bytes"], row["dtype"]) for row in figures["memory"]}
    assert memory["weights"] == (2 * total, "bfloat16")
    assert memory["KV cache per token"] == (2 * 2 * 8 * 2, "bfloat16")
    assert figures["special tokens"] == {"tokenizer": "none in this folder"}
    assert "rope_theta" in figures["architecture"]
    assert "low_rank_len" not in figures["architecture"]


def test_a_classifier_tells_its_labels_and_an_embedder_its_pooling(tmp_path, capsys):
    from parakit.checkpoints import save_model
    from parakit.model.config import ClassifierConfig, EmbedderConfig, EncoderConfig
    from parakit.model.heads import Classifier, Embedder

    shape = {
        "vocab_size": 50,
        "d_model": 16,
        "n_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 2,
        "head_dim": 8,
        "d_ff": 24,
    }
    config = EncoderConfig(**shape, max_seq_len=32)
    labels = ClassifierConfig(labels=("good", "bad"), pooling="mean")
    save_model(Classifier(config, labels), None, tmp_path / "c", Lineage("model"))
    save_model(Embedder(config, EmbedderConfig(pooling="cls")), None, tmp_path / "e", Lineage("model"))
    assert main([str(tmp_path / "c")]) == 0
    shown = " ".join(capsys.readouterr().out.split())  # lines break where the folder's name ends
    assert "an encoder of" in shown
    assert "labels texts" in shown
    assert "good, bad" in shown
    assert "KV cache" not in shown
    assert main([str(tmp_path / "e"), "--json"]) == 0
    model = json.loads(capsys.readouterr().out)["figures"]["model"]
    assert (model["pooling"], model["vectors"]) == ("cls", "normalized")


def test_a_moved_build_still_finds_its_parents_and_a_missing_one_is_told(build, tmp_path):
    shutil.copytree(build, tmp_path / "moved")
    hidden = tmp_path / "moved" / "shards"
    lineage = json.loads((tmp_path / "moved/pretrain/lineage.json").read_text())
    lineage["parents"][0]["path"] = str(tmp_path / "elsewhere" / "shards")
    (tmp_path / "moved/pretrain/lineage.json").write_text(json.dumps(lineage))
    assert describe(tmp_path / "moved/pretrain", verify=False)["lineage"]["parents"][0]["path"] == str(hidden)
    shutil.rmtree(hidden)
    assert describe(tmp_path / "moved/pretrain", verify=False)["lineage"]["parents"][0]["note"] == "missing"


def test_a_foreign_model_is_shown_without_lineage(build, tmp_path, capsys):
    shutil.copytree(build / "pretrain", tmp_path / "foreign")
    (tmp_path / "foreign/lineage.json").unlink()
    (tmp_path / "foreign/manifest.json").unlink()
    assert main([str(tmp_path / "foreign")]) == 0
    shown = capsys.readouterr().out
    assert "third-party" in shown
    assert "no manifest" in shown


def test_damage_names_the_file(build, tmp_path):
    shutil.copytree(build / "corpus", tmp_path / "corpus")
    with open(tmp_path / "corpus/train.jsonl", "a") as file:
        file.write(" ")
    with pytest.raises(CorruptArtifact, match=r"train\.jsonl"):
        describe(tmp_path / "corpus")


def test_what_is_nothing_of_ours_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("hi")
    for path in (tmp_path, tmp_path / "a.txt", tmp_path / "absent"):
        with pytest.raises(UserError) as error:
            describe(path)
        assert error.value.hint


def test_text_from_a_file_is_neither_markup_nor_a_terminal_code(build, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    main([str(build / "corpus")])
    shown = capsys.readouterr().out
    assert "[bold]friend[/bold]" in shown
    assert "\x1b[31m" not in shown


def test_a_model_is_shown_without_torch(build):
    code = (
        "import sys; from parakit.cli.show import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(build / "pretrain")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_sets_of_preferences_and_of_examples_show_their_first_rows(tmp_path, capsys):
    pairs, examples = tmp_path / "pairs.jsonl", tmp_path / "examples.jsonl"
    rows = [{"prompt": f"Where is {i}?", "ranking": [f"Here is {i}.", "No."]} for i in range(9)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "ranking": ["a", "a"]}]))
    examples.write_text(
        "".join(json.dumps({"text": f"word {i}", "label": "ab"[i % 2]}) + "\n" for i in range(60))
    )
    assert prepare(["--preferences", str(pairs), "--output", str(tmp_path / "preferences")]) == 0
    assert prepare([str(examples), "--task", "classify", "--output", str(tmp_path / "examples")]) == 0
    capsys.readouterr()
    found = {}
    for name in ("preferences", "examples"):
        assert main([str(tmp_path / name), "--json"]) == 0
        found[name] = json.loads(capsys.readouterr().out)
    assert found["preferences"]["what"] == "9 rankings of answers for alignment"
    assert found["preferences"]["figures"]["reading"]["skipped: the answers are the same"] == 1
    assert found["preferences"]["samples"]["first rankings"][0].splitlines()[1].startswith("1. Here is")
    assert found["examples"]["what"] == "60 examples of the task classify"
    assert sum(row["examples"] for row in found["examples"]["figures"]["splits"]) == 60
