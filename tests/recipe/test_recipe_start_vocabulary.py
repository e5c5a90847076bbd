"""A recipe that gives a published model new tokens: learned, trained, compared and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parakit.checkpoints.import_export import export_model
from parakit.cli import build as build_command
from parakit.common import UserError, open_artifact
from parakit.recipe import build
from parakit.recipe.builder import dry_run, recipe_for_model
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from tests.sample_text import sentences

SETTINGS = {
    **{"name": "larger", "start.extend_vocab": 20, "finetune.method": "lora", "questions": ["the bird?"]},
    **{"pretrain.max_steps": 2, "pretrain.batch_tokens": 192, "finetune.max_steps": 2},
    **{"finetune.batch_tokens": 192, "prompts": ["Wolkenbruch"]},
}


def german(folder: Path) -> Path:
    """Text in words that the tiny tokenizer has not seen."""
    path = folder / "german.txt"
    path.write_text("\n\n".join(f"Wolkenbruch über dem Gartenzaun, {sentences(i, 3)}" for i in range(40)))
    return path


@pytest.fixture(scope="module")
def built(published_decoder, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """Text, conversations and an adapter: the build's folder and its summary."""
    from tests.tiny_builds import write_conversations

    folder = tmp_path_factory.mktemp("larger")
    settings = SETTINGS | {"conversations.paths": [str(write_conversations(folder))]}
    recipe = recipe_for_model(str(published_decoder), [str(german(folder))], settings)
    summary = build(recipe, folder / "builds").to_dict()
    assert not any(decision.run for decision in dry_run(recipe, folder / "builds"))
    return folder / "builds/larger", summary


@pytest.mark.long
def test_later_stages_have_the_larger_vocabulary_and_the_text_takes_fewer_tokens(built, published_decoder):
    folder, summary = built
    figures = summary["stages"]["vocabulary"]
    assert figures["new_tokens"] == figures["new_rows"] == 20
    published = Tokenizer.load(published_decoder)
    for stage in ("vocabulary", "pretrain"):
        tokenizer = Tokenizer.load(folder / stage)
        assert tokenizer.vocab_size == published.vocab_size + 20
        assert tokenizer.chat_template == published.chat_template
    before, after = (len(one.encode("über dem Gartenzaun")) for one in (published, tokenizer))
    assert after < before
    texts = [json.loads(line)["text"] for line in (folder / "corpus/train.jsonl").read_text().splitlines()]
    for tokenizer, name in ((published, "before"), (Tokenizer.load(folder / "vocabulary"), "after")):
        n_tokens = sum(len(tokenizer.encode(text)) for text in texts)
        ratio = n_tokens / sum(len(text.split()) for text in texts)
        assert figures[f"tokens_per_word_{name}"] == pytest.approx(ratio, rel=0.02)
    assert json.loads((folder / "finetune/adapter_config.json").read_text())["modules_to_save"] is None
    page = (folder / "report.html").read_text()
    assert "tokens per word, held-out text" in page


@pytest.mark.long
def test_models_of_different_vocabularies_are_compared_in_bits_per_byte(built):
    _, summary = built
    rows = {one["name"]: one for one in summary["against_start"]}
    assert list(rows) == ["held-out text", "held-out conversations"]
    for one in rows.values():
        assert one["unit"] == "bits per byte"
        assert list(one["values"]) == ["start", "base", "tuned"]
    text = {row["model"]: row for row in summary["evaluations"] if row["name"] == "held-out text"}
    assert text["start"]["n_tokens"] > text["base"]["n_tokens"]
    assert text["start"]["bits_per_byte"] == pytest.approx(rows["held-out text"]["values"]["start"])


@pytest.mark.long
def test_the_lineage_leads_through_the_larger_vocabulary_and_its_rows_are_trained(built):
    import torch

    from parakit.checkpoints import load_model

    folder, summary = built
    rows = {row["stage"]: row for row in summary["lineage"]}
    assert rows["start"]["digest"] in rows["vocabulary"]["parents"]
    assert rows["vocabulary"]["digest"] in rows["pretrain"]["parents"]
    lineage = open_artifact(folder / "vocabulary").lineage
    assert lineage["config"]["extend_vocab"] == 20
    untrained, trained = (
        load_model(folder / stage)[0].trunk.token_embedding.weight[-20:]
        for stage in ("vocabulary", "pretrain")
    )
    assert not torch.equal(untrained, trained)


@pytest.mark.long
def test_transformers_loads_the_exported_folder_with_equal_ids_and_logits(built, tmp_path):
    import torch

    from parakit.checkpoints import load_model

    transformers = pytest.importorskip("transformers")
    folder = export_model(built[0] / "pretrain", tmp_path / "exported")
    model, tokenizer = load_model(folder)
    assert tokenizer is not None
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    text = "Wolkenbruch über dem Gartenzaun, the old bird"
    ids = reference(text, add_special_tokens=False)["input_ids"]
    assert ids == tokenizer.encode(text)
    assert max(ids) >= tokenizer.vocab_size - 20
    assert reference.decode(ids) == text
    with torch.no_grad():
        logits = transformers.AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits
        torch.testing.assert_close(model(torch.tensor([ids])), logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start.extend_vocab": ["bird"]}, "token already"),
        ({"start.extend_vocab": ["<|im_end|>"]}, "cannot become one token"),
        ({"start.extend_vocab": ["two words"]}, "cannot become one token"),
        ({"start.extend_vocab": 0}, "greater than or equal to 1"),
        ({"start.extend_vocab": []}, "at least 1"),
        ({"start.extend_vocab": "absent.txt"}, "not readable as a text file"),
    ],
)
def test_bad_extensions_are_refused_before_any_work(published_decoder, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        dry_run(
            recipe_for_model(str(published_decoder), [str(german(tmp_path))], changes), tmp_path / "builds"
        )
    assert not (tmp_path / "builds").exists()


def test_new_tokens_need_text(published_decoder, conversations):
    settings = {"start.extend_vocab": 20, "conversations.paths": [str(conversations)]}
    with pytest.raises(UserError, match="there is no `text`"):
        recipe_for_model(str(published_decoder), (), settings)


def test_a_tokenizer_of_whole_words_is_refused_before_any_work(published_encoder, tmp_path):
    recipe = recipe_for_model(str(published_encoder), [str(german(tmp_path))], {"start.extend_vocab": 20})
    with pytest.raises(UserError, match="is a wordpiece, which new tokens cannot extend"):
        dry_run(recipe, tmp_path / "builds")


def test_the_command_takes_a_number_a_file_or_words(published_decoder, tmp_path):
    text = str(german(tmp_path))
    words = tmp_path / "words.txt"
    words.write_text("Wolkenbruch\n\nGartenzaun\nWolkenbruch\n")
    for values, expected in (
        (["20"], 20),
        ([str(words)], ("Wolkenbruch", "Gartenzaun")),
        (["Wolkenbruch", "Gartenzaun"], ("Wolkenbruch", "Gartenzaun")),
    ):
        command = build_command.BuildConfig.parse(
            {"model": str(published_decoder), "text": (text,), "extend_vocab": tuple(values)}, "build"
        )
        start = build_command._recipe(command).start
        assert start is not None
        assert start.new_tokens() == expected
    with pytest.raises(UserError, match="--extend-vocab goes with --model"):
        build_command._recipe(
            build_command.BuildConfig.parse({"text": (text,), "extend_vocab": ("20",)}, "b")
        )
