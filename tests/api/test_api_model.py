"""`parakit.load` and `Model`: the results of transformers on the same folder, and errors that list what a model can do."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import get_type_hints

import numpy as np
import pytest
import torch
import transformers

import parakit
from parakit.cli.main import main
from parakit.common import UserError
from parakit.inference.config import (
    BeamConfig,
    ContrastiveConfig,
    DecodingSettings,
    SamplingConfig,
    SamplingSettings,
)
from parakit.inference.scoring import encode_pair
from parakit.stages.config import FinetuneConfig
from parakit.tokens.chat.template import compile_chat, stop_ids

PROMPTS = ["the small bird", "a red tree and", "old"]
MESSAGES = [{"role": "user", "content": "the bird sings"}]
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["decoder", "published"])
def pair(request, folders):
    """A model by `parakit.load`, and by transformers, from the same folder."""
    folder = folders / request.param
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return parakit.load(folder, device="cpu"), reference


@torch.no_grad()
def reference_logits(reference, ids):
    return reference(torch.tensor([ids])).logits[0]


def reference_log_likelihood(reference, ids, n_completion):
    steps = reference_logits(reference, ids)[:-1].log_softmax(-1)
    return float(steps.gather(-1, torch.tensor(ids[1:])[:, None])[-n_completion:].sum())


def test_import_parakit_imports_no_torch_and_text_no_processes():
    code = "import parakit, sys; parakit.__version__; print(sorted({'torch', 'transformers'} & set(sys.modules)), end='');"
    code += "import parakit.cli.text; print(sorted({'torch', 'multiprocessing'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[][]"


def test_logits_are_those_of_transformers(pair):
    model, reference = pair
    for prompt in PROMPTS:
        ids = [model.tokenizer.bos_id, *model.tokenizer.encode(prompt)]
        logits = model.logits(prompt)
        assert logits.shape == (len(ids), model.tokenizer.vocab_size)
        torch.testing.assert_close(logits, reference_logits(reference, ids), atol=TOLERANCE, rtol=0)
        assert torch.equal(model.logits(ids), logits)


def test_a_log_likelihood_is_the_sum_over_the_completions_tokens(pair):
    model, reference = pair
    encode = transformers.AutoTokenizer.from_pretrained(model.path).encode
    completions = [" sees a red tree", "bird", " é🌳"]
    sums = model.log_likelihood("the small", completions)
    for completion, value in zip(completions, sums, strict=True):
        before = [model.tokenizer.bos_id, *encode("the small", add_special_tokens=False)]
        after = encode(completion, add_special_tokens=False)
        assert value == pytest.approx(
            reference_log_likelihood(reference, before + after, len(after)), abs=TOLERANCE
        )
        assert model.log_likelihood("the small", completion) == pytest.approx(value, abs=TOLERANCE)


def test_after_a_conversation_the_completion_is_the_assistants_content(pair):
    model, reference = pair
    tokenizer = model.tokenizer
    chat = compile_chat(tokenizer, [*MESSAGES, {"role": "assistant", "content": "the tree"}])
    n_prompt = len(compile_chat(tokenizer, MESSAGES, add_generation_prompt=True).token_ids)
    assert chat.token_ids[-1] in tokenizer.control_ids  # the end of the turn, which does not count
    ids = chat.token_ids[:-1]
    expected = reference_log_likelihood(reference, ids, len(ids) - n_prompt)
    assert model.log_likelihood(MESSAGES, "the tree") == pytest.approx(expected, abs=TOLERANCE)


def test_text_never_becomes_a_control_token(pair):
    model = pair[0]
    for form in model.tokenizer.special_tokens:
        for prompt in (f"a{form}", [{"role": "user", "content": form}]):
            ids, counted = encode_pair(model.tokenizer, prompt, form)
            own = [token_id for token_id, counts in zip(ids, counted, strict=True) if counts]
            assert own
            assert not model.tokenizer.control_ids & set(own)
            assert np.isfinite(model.log_likelihood(prompt, form))


def test_greedy_tokens_are_those_of_transformers(pair):
    model, reference = pair
    tokenizer, ends, texts = model.tokenizer, stop_ids(model.tokenizer), []
    for prompt in PROMPTS:
        ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode(prompt)]])
        out = reference.generate(
            ids, max_new_tokens=20, do_sample=False, eos_token_id=list(ends), pad_token_id=ends[0]
        )
        pieces = model.stream(prompt, max_new_tokens=20, temperature=0)
        texts.append("".join(pieces))
        assert list(pieces.completion.token_ids) == out[0, ids.shape[1] :].tolist()
        assert pieces.completion.n_prompt_tokens == ids.shape[1]
    assert [model.generate(prompt, max_new_tokens=20, temperature=0) for prompt in PROMPTS] == texts
    assert model.generate(PROMPTS, max_new_tokens=20, temperature=0) == texts


def test_chat_answers_by_the_template_and_streams_the_same(folders):
    model = parakit.load(folders / "tuned", device="cpu")
    settings = {"temperature": 0, "max_new_tokens": 8}
    answer = model.chat(MESSAGES, **settings)
    assert "".join(model.stream(MESSAGES, **settings)) == answer
    assert answer != model.generate("the bird sings", **settings)
    with pytest.raises(UserError, match="unknown role 'king'"):
        model.chat([{"role": "king", "content": "x"}])


def test_generate_and_chat_of_the_command_line_give_the_same_text(folders, capsys):
    model = parakit.load(folders / "tuned", device="cpu")
    flags = ["--temperature", "0", "--max-new-tokens", "8", "--device", "cpu"]
    assert main(["generate", str(folders / "tuned"), "the bird sings", *flags]) == 0
    assert capsys.readouterr().out == model.chat(MESSAGES, temperature=0, max_new_tokens=8) + "\n"
    assert main(["generate", str(folders / "decoder"), "the bird", *flags]) == 0
    plain = parakit.load(folders / "decoder", device="cpu")
    assert capsys.readouterr().out == plain.generate("the bird", temperature=0, max_new_tokens=8) + "\n"


def test_every_kind_of_model_predicts(folders, tokenizer):
    texts = ["the small bird", "a red tree near the house"]
    load = {name: parakit.load(folders / name, device="cpu") for name in ("encoder", "tagger", "scorer")}
    classified = parakit.load(folders / "classifier", device="cpu").classify([texts[0], tuple(texts)])
    assert [set(one.probabilities) for one in classified] == [{"bad", "good"}] * 2
    assert [len(one) for one in load["tagger"].tag([text.split() for text in texts])] == [3, 6]
    assert len(load["scorer"].regress(texts)) == 2
    translator = parakit.load(folders / "translator", device="cpu")
    assert len(translator.translate(texts, max_new_tokens=4)) == 2
    assert len(translator.translate(texts, n_beams=3, max_new_tokens=4)) == 2
    vectors = load["encoder"].embed(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    [position] = load["encoder"].fill_mask("the [MASK] bird", n_candidates=3)
    assert len(position.candidates) == 3
    assert [len(one) for one in load["encoder"].fill_mask(["a [MASK]", "[MASK] [MASK]"])] == [1, 2]
    ids = [tokenizer.cls_id, *tokenizer.encode(texts[0]), tokenizer.sep_id]
    assert torch.equal(load["encoder"].logits(texts[0]), load["encoder"].logits(ids))


@pytest.mark.parametrize(
    ("name", "call", "message"),
    [
        ("encoder", lambda m: m.generate("a"), "it can: fill in masked tokens"),
        ("encoder", lambda m: m.log_likelihood("a", "b"), "it can: fill in masked tokens"),
        ("translator", lambda m: m.chat(MESSAGES), "it can: turn a source into a target"),
        ("translator", lambda m: m.logits("a"), "it can: turn a source into a target"),
        ("classifier", lambda m: m.tag([["a"]]), "it can: label texts"),
        ("classifier", lambda m: m.embed(["a"]), "it can: label texts"),
        ("decoder", lambda m: m.fill_mask("[MASK]"), "it can: continue a text"),
        ("decoder", lambda m: m.translate(["a"]), "it can: continue a text"),
        ("decoder", lambda m: m.embed("one text"), "give a list"),
        ("classifier", lambda m: m.classify("one text"), "give a list"),
        ("tagger", lambda m: m.tag(["the bird"]), "give a list"),
        ("decoder", lambda m: m.generate("a", temprature=0), "temperature"),
        ("decoder", lambda m: m.generate("a", temperature=-1), "temperature"),
        ("decoder", lambda m: m.generate("bird " * 90), "context window holds 64"),
        ("decoder", lambda m: m.log_likelihood("a", ""), "has no tokens"),
        ("decoder", lambda m: m.log_likelihood("a", "bird " * 90), "context window holds 64"),
        ("decoder", lambda m: m.logits([0, 10**6]), "the vocabulary has"),
        ("decoder", lambda m: m.logits([]), "no tokens"),
    ],
)
def test_a_request_that_cannot_be_served_names_the_way_out(folders, name, call, message):
    with pytest.raises(UserError, match=message):
        call(parakit.load(folders / name, device="cpu"))


def test_folders_that_hold_no_model_are_refused(tmp_path, folders):
    with pytest.raises(UserError, match="nowhere"):
        parakit.load(tmp_path / "nowhere")
    bare = parakit.Model(parakit.load(folders / "decoder", device="cpu").network)
    with pytest.raises(UserError, match="has no tokenizer"):
        bare.generate("a")
    assert bare.logits([1, 2]).shape[0] == 2


def test_a_build_stands_for_its_last_model(tmp_path, folders):
    (tmp_path / "build.json").write_text("{}")
    for stage, name in (("pretrain", "decoder"), ("finetune", "tuned")):
        (tmp_path / stage).symlink_to(folders / name)
        model = parakit.load(tmp_path, device="cpu")
        assert (model.path, model.chat_tuned) == (tmp_path / stage, stage == "finetune")
    assert "a decoder" in repr(model)


def test_keyword_arguments_are_the_fields_of_the_settings():
    sampled = {*SamplingConfig.model_fields, "draft", "prompt_lookup"}
    searched = {*BeamConfig.model_fields, *ContrastiveConfig.model_fields}
    assert set(get_type_hints(SamplingSettings)) == sampled
    assert set(get_type_hints(DecodingSettings)) == searched | sampled


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda out: parakit.pretrain("shards", out=out), "no tokenizer was given"),
        (lambda out: parakit.pretrain("absent", tokenizer="absent", out=out), "absent"),
        (lambda out: parakit.pretrain("shards", tokenizer="t", out=out, max_stepz=3), "max_steps"),
        (lambda out: parakit.finetune("model", out=out), "no conversations were given"),
        (lambda out: parakit.align("model", method="dpo", out=out), "no preferences were given"),
        (lambda out: parakit.align("model", method="dpo", out=out, clip_range=0.1), "clip_range"),
        (lambda out: parakit.distill("model", out=out), "model"),
        (lambda out: parakit.build("absent.yaml", builds=out), "absent.yaml"),
        (lambda out: parakit.evaluate("model", preferences="p", text=["t"]), "does not go with preferences"),
        (lambda out: parakit.finetune("m", out=out, config=FinetuneConfig(), epochs=1), "a config was given"),
    ],
)
def test_mistakes_of_training_calls_leave_nothing(tmp_path, monkeypatch, call, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        call(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_public_functions_take_keywords_after_the_first_arguments():
    for name in ("load", "evaluate", "build", "pretrain", "finetune", "align", "distill"):
        parameters = list(inspect.signature(getattr(parakit, name)).parameters.values())
        positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert len(positional) == 1
        assert inspect.getdoc(getattr(parakit, name))
