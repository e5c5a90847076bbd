"""A recipe that begins with a published model: every stage from its import to the report."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from parakit.checkpoints import load_model
from parakit.checkpoints.adapters import is_adapter_folder
from parakit.cli.rendering.show_details import describe
from parakit.common import UserError, open_artifact
from parakit.recipe import RecipeConfig, build, dry_run
from parakit.recipe.builder import recipe_for_model
from parakit.recipe.stage_list import stages_of
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from tests.checkpoints.gguf.gguf_files import TEMPLATE, llama_cpp_tensors, rotary_fields, write_gguf
from tests.sample_text import sentences

TINY = {
    "name": "assistant",
    "pretrain.max_steps": 2,
    "pretrain.batch_tokens": 192,
    "finetune.max_steps": 2,
    "finetune.batch_tokens": 192,
    "questions": ["the bird?"],
    "prompts": ["the old"],
}
STAGES = [
    *("start", "corpus", "shards", "conversations", "conversation_shards"),
    *("pretrain", "finetune", "evaluate"),
]


@pytest.fixture(scope="module")
def built(published_decoder, tmp_path_factory) -> tuple[Path, RecipeConfig, dict[str, Any]]:
    """Text and conversations on the tiny published model: the folder of builds, the recipe and the summary."""
    from tests.tiny_builds import write_conversations, write_text

    folder = tmp_path_factory.mktemp("start")
    files = {"conversations.paths": [str(write_conversations(folder))]}
    text = write_text(folder)
    recipe = recipe_for_model(str(published_decoder), [str(text)], TINY | files)
    return folder / "builds", recipe, build(recipe, folder / "builds").to_dict()


def test_every_stage_runs_with_the_starts_own_tokenizer_template_and_context(built, published_decoder):
    builds, _, summary = built
    assert list(summary["stages"]) == STAGES
    folder = builds / "assistant"
    published = Tokenizer.load(published_decoder)
    for stage in ("start", "pretrain", "finetune"):
        tokenizer = Tokenizer.load(folder / stage)
        assert tokenizer.chat_template == published.chat_template
        assert tokenizer.encode("the old bird") == published.encode("the old bird")
    assert summary["stages"]["start"]["config"]["max_seq_len"] == 96
    assert summary["stages"]["pretrain"]["plan"]["optimizer"] == "adamw"


def test_the_lineage_leads_back_to_the_import_and_the_digests_of_its_files(built, published_decoder):
    builds, _, summary = built
    rows = {row["stage"]: row for row in summary["lineage"]}
    assert rows["start"]["digest"] in rows["pretrain"]["parents"]
    assert rows["pretrain"]["digest"] in rows["finetune"]["parents"]
    files = summary["stages"]["start"]["files"]
    weights = (published_decoder / "model.safetensors").read_bytes()
    assert files["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert open_artifact(builds / "assistant/start").lineage["result"]["files"] == files


def test_every_stage_is_compared_with_the_published_model(built):
    builds, _, summary = built
    figures = {one["name"]: one for one in summary["against_start"]}
    assert list(figures) == ["held-out text", "held-out conversations"]
    for one in figures.values():
        assert list(one["values"]) == ["start", "base", "tuned"]
        for model, difference in one["differences"].items():
            assert difference == one["values"][model] - one["values"]["start"]
    # measured over whole windows here, and over the run's shorter rows there
    before = summary["stages"]["pretrain"]["before"]["bits_per_byte"]
    assert figures["held-out text"]["values"]["start"] == pytest.approx(before, rel=0.01)
    after = summary["stages"]["finetune"]["loss"]
    assert figures["held-out conversations"]["values"]["tuned"] == pytest.approx(after, rel=0.01)
    for stage in ("start", "pretrain", "finetune"):
        assert "the old" in [sample["prompt"] for sample in summary["stages"][stage]["samples"]]
    page = (builds / "assistant/report.html").read_text()
    assert "Compared with the published model" in page
    assert "published model" in page
    shown = describe(builds / "assistant", verify=False)["figures"]["against the published model"]
    assert [row["figure"] for row in shown] == list(figures)


def test_the_same_recipe_again_does_nothing_and_can_be_read_back(built):
    builds, recipe, summary = built
    assert not any(decision.run for decision in dry_run(recipe, builds))
    assert RecipeConfig.parse(summary["recipe"]) == recipe
    assert not {"size", "max_seq_len", "tokenizer", "architecture"} & summary["recipe"].keys()


def test_a_changed_start_makes_everything_behind_it_anew(built, published_decoder, tmp_path):
    import shutil

    builds, recipe, _ = built
    other = tmp_path / "other"
    shutil.copytree(published_decoder, other)
    changed = recipe.replace(start={"model": str(other)}, pretrain=recipe.pretrain.replace(model=str(other)))
    decisions = {decision.stage.name: decision.run for decision in dry_run(changed, builds)}
    assert [name for name, run in decisions.items() if not run] == ["corpus", "conversations"]


def test_conversations_alone_in_a_given_time_choose_an_adapter(
    published_decoder, conversations, tmp_path, capsys
):
    settings = {"name": "quick", "time": "20s", "conversations.paths": [str(conversations)], "prompts": ["a"]}
    recipe = recipe_for_model(str(published_decoder), (), settings)
    summary = build(recipe, tmp_path / "builds").to_dict()
    told = capsys.readouterr().err
    assert "an adapter (LoRA) is trained" in told
    assert is_adapter_folder(tmp_path / "builds/quick/finetune")
    assert list(summary["models"]) == ["start", "tuned"]
    plan = summary["stages"]["finetune"]["plan"]
    n_tokens = summary["stages"]["conversation_shards"]["splits"]["train"]["n_tokens"]
    assert plan["max_steps"] * plan["n_rows"] * plan["seq_len"] <= 3.5 * n_tokens


def test_an_adapter_is_merged_before_alignment_and_each_model_is_compared(
    published_decoder, conversations, tmp_path
):
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"the bird {i}", "chosen": "the old tree", "rejected": "no"} for i in range(24)]
    pairs.write_text("\n".join(map(json.dumps, rows)) + "\n")
    settings = TINY | {
        **{"conversations.paths": [str(conversations)], "finetune.method": "lora"},
        **{
            "preferences.paths": [str(pairs)],
            "align": [{"method": "dpo", "max_steps": 1, "batch_examples": 4}],
        },
    }
    settings = {key: value for key, value in settings.items() if not key.startswith("pretrain")}
    summary = build(recipe_for_model(str(published_decoder), (), settings), tmp_path / "builds").to_dict()
    assert list(summary["models"]) == ["start", "tuned", "dpo"]
    assert open_artifact(tmp_path / "builds/assistant/finetune").kind == "model"
    merged = summary["stages"]["finetune"]["merge"]["logit_difference"]
    assert 0 <= merged["largest"] <= merged["limit"]
    card = (tmp_path / "builds/assistant/finetune/README.md").read_text()
    assert f"logits differ by {merged['largest']:.2g} at most" in card
    (chats,) = summary["against_start"]
    assert list(chats["differences"]) == ["tuned", "dpo"]


@pytest.mark.long
def test_a_gguf_file_is_imported_tuned_and_compared(published_decoder, conversations, tmp_path):
    from gguf import MODEL_ARCH
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(published_decoder)
    tensors = llama_cpp_tensors(published_decoder, config, MODEL_ARCH.LLAMA)

    def fields(writer: Any) -> None:
        rotary_fields(writer, config)
        writer.add_chat_template(TEMPLATE)

    file = write_gguf(tmp_path / "m.gguf", "llama", fields, tensors)
    settings = {"name": "gguf", "conversations.paths": [str(conversations)], "prompts": ["a"]}
    settings |= {"finetune.method": "lora", "finetune.max_steps": 1, "finetune.batch_tokens": 192}
    recipe = recipe_for_model(str(file), (), settings)
    summary = build(recipe, tmp_path / "builds").to_dict()
    assert list(summary["models"]) == ["start", "tuned"]
    folder = tmp_path / "builds/gguf"
    model, tokenizer = load_model(folder / "start")
    reference, _ = load_model(published_decoder)
    for (name, tensor), wanted in zip(
        model.state_dict().items(), reference.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, wanted), name
    assert tokenizer is not None
    assert tokenizer.chat_template == TEMPLATE
    files = summary["stages"]["start"]["files"]
    assert files == {"m.gguf": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert not any(decision.run for decision in dry_run(recipe, tmp_path / "builds"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    cut = recipe.replace(name="cut")
    with pytest.raises(UserError, match=r"m\.gguf"):
        build(cut, tmp_path / "builds")
    assert not (tmp_path / "builds/cut/start").exists()


def test_an_encoder_learns_a_task_from_examples(published_encoder, tmp_path):
    examples = tmp_path / "labels.jsonl"
    rows = [{"text": sentences(i, 1), "label": "even" if i % 2 == 0 else "odd"} for i in range(60)]
    examples.write_text("\n".join(map(json.dumps, rows)) + "\n")
    settings = {"name": "labels", "examples.paths": [str(examples)], "finetune.task": "classify"}
    settings |= {"examples.test_fraction": 0.2, "examples.validation_fraction": 0.2}
    recipe = recipe_for_model(str(published_encoder), (), settings | {"finetune.max_steps": 2})
    assert recipe.family == "encoder"
    summary = build(recipe, tmp_path / "builds").to_dict()
    assert list(summary["stages"]) == ["start", "examples", "example_shards", "finetune", "evaluate"]
    assert summary["task"]["task"] == "classify"
    assert summary["task_of_start"] is None


def test_the_template_of_the_docs_works_for_a_model_without_one(published_decoder):
    page = (Path(__file__).resolve().parents[2] / "docs/start.md").read_text()
    template = page.split("```\n{% for")[1].split("\n```")[0]
    tokenizer = Tokenizer.load(published_decoder)
    tokenizer.chat_template = "{% for" + template
    messages = [{"role": "user", "content": "the bird"}, {"role": "assistant", "content": "the tree"}]
    chat = compile_chat(tokenizer, messages)
    counted = [i for i, counts in zip(chat.token_ids, chat.loss_mask, strict=True) if counts]
    assert counted[-1] == tokenizer.eos_id
    assert tokenizer.decode(counted[:-1]).strip() == "the tree"


def names(recipe: RecipeConfig, tmp_path: Path) -> dict[str, tuple[str, ...]]:
    return {stage.name: stage.parents for stage in stages_of(recipe, tmp_path)}


CHATS = {"conversations": {"paths": ["chats.jsonl"]}}


@pytest.mark.parametrize(
    ("settings", "parents"),
    [
        (CHATS, {"finetune": ("start", "conversation_shards")}),
        ({"text": {"paths": ["a"]}}, {"pretrain": ("shards", "start"), "evaluate": ("start", "pretrain", "shards")}),
        (
            {"text": {"paths": ["a"]}, "replay": {"paths": ["b"]}},
            {"pretrain": ("shards", "start", "replay_shards"), "replay_shards": ("replay_corpus", "start")},
        ),
        (
            {"align": [{"method": "dpo"}], "preferences": {"paths": ["pairs.jsonl"]}},
            {"dpo": ("start", "preferences"), "evaluate": ("start", "dpo")},
        ),
        ({"text": {"paths": ["a"]}, "pretrain": "none", "distill": {"keep_layers": 1}}, {"distill": ("start", "shards")}),
        (
            {"family": "encoder", "examples": {"paths": ["a"]}, "finetune": {"task": "classify"}},
            {"example_shards": ("examples", "start"), "finetune": ("start", "example_shards")},
        ),
    ],
)  # fmt: skip
def test_stages_hang_together_whatever_is_left_out(settings, parents, tmp_path):
    made = names(RecipeConfig.parse({"start": "models/mine"} | settings), tmp_path)
    assert "tokenizer" not in made
    assert {name: made[name] for name in parents} == parents


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"start": "m"}, "nothing is trained"),
        ({"start": "m", "tokenizer": {"vocab_size": 512}, **CHATS}, "`tokenizer` is set but has no effect"),
        ({"start": "m", "size": "5m", **CHATS}, "the model that `start` names has its own"),
        ({"start": "m", "max_seq_len": 64, **CHATS}, "`max_seq_len` is set but has no effect"),
        (
            {"start": "m", "pretrain": {"model": "other"}, "text": {"paths": ["a"]}},
            "`pretrain.model` names other",
        ),
        ({"start": "m", "text": {"paths": ["a"]}, "pretrain": "none", **CHATS}, "`text` is set but"),
        ({"start": "m", "text": {"exclude": ["b"]}, **CHATS}, "`text` has settings but no paths"),
        ({"start": "m", "replay": {"paths": ["a"]}, **CHATS}, "`replay` is set but has no effect"),
        ({"replay": {"paths": ["a"]}, "text": {"primer": {}}}, "a new model has forgotten nothing"),
        ({"start": {"model": "m", "fetch": True}, **CHATS}, "`model` is a path"),
        ({"start": {"modle": "m"}, **CHATS}, "unknown key `start.modle`"),
        (
            {
                **{"start": "m", **CHATS, "finetune": {"method": "prompt"}},
                **{"align": [{"method": "dpo"}], "preferences": {"paths": ["a"]}},
            },
            "cannot be merged into weights",
        ),
        (
            {
                **{"start": "m", **CHATS, "finetune": {"method": "lora", "merge": False}},
                **{"align": [{"method": "dpo"}], "preferences": {"paths": ["a"]}},
            },
            "begin with a model, not with an adapter",
        ),
        ({"start": "m", "align": [{"method": "grpo", "reward": "length"}]}, "has no prompts"),
        ({"start": "m", "distill": {"keep_layers": 1}}, "`distill` has no data"),
    ],
)
def test_what_does_not_go_with_a_start_is_refused_with_the_reason(settings, told):
    with pytest.raises(UserError) as error:
        RecipeConfig.parse(settings)
    assert told in error.value.message
    assert error.value.hint


def start_with(folder: Path, **settings: Any) -> RecipeConfig:
    return RecipeConfig.parse({"start": str(folder), "name": "x"} | settings)


def test_a_start_that_does_not_fit_is_refused_before_any_work(published_decoder, conversations, tmp_path):
    import shutil

    chats = {"conversations": {"paths": [str(conversations)]}}
    bare = tmp_path / "bare"
    shutil.copytree(published_decoder, bare)
    (bare / "chat_template.jinja").unlink()
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    for recipe, told, way_out in (
        (start_with(tmp_path / "gone", **chats), "no such model", "hub:ORGANISATION/MODEL"),
        (start_with(adapter, **chats), "is an adapter", "parakit merge"),
        (start_with(bare, **chats), "no chat template", "start.chat_template"),
        (
            start_with(published_decoder, family="encoder", text={"paths": [str(conversations)]}),
            "family",
            "set",
        ),
        (start_with(conversations.parent, **chats), "", ""),
    ):
        with pytest.raises(UserError) as error:
            build(recipe, tmp_path / "builds")
        assert told in error.value.message
        assert way_out in error.value.hint
        assert not (tmp_path / "builds").exists()
    hub = start_with(Path("hub:org/name"), **chats)
    with pytest.raises(UserError, match="nothing is downloaded unasked") as error:
        build(hub, tmp_path / "builds")
    assert "--fetch" in error.value.hint


def test_a_template_of_the_users_own_stands_in_for_a_missing_one(published_decoder, conversations, tmp_path):
    import shutil

    bare, template = tmp_path / "bare", tmp_path / "chat.jinja"
    shutil.copytree(published_decoder, bare)
    template.write_text((bare / "chat_template.jinja").read_text())
    (bare / "chat_template.jinja").unlink()
    recipe = RecipeConfig.parse(
        {
            **{"name": "given", "start": {"model": str(bare), "chat_template": str(template)}},
            **{"conversations": {"paths": [str(conversations)]}, "finetune": {"max_steps": 1}},
        }
    )
    stage = stages_of(recipe, tmp_path / "out")[0]
    stage.run(tmp_path / "out/start")
    assert Tokenizer.load(tmp_path / "out/start").chat_template == template.read_text()
