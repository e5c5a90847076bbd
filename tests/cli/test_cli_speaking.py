"""`parakit generate`, `chat` and `evaluate`: what goes to standard output, and what machines read."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

from parakit.checkpoints import load_model, save_model
from parakit.cli import chat, evaluate, generate
from parakit.common import Lineage, UserError
from parakit.model import DecoderConfig, LanguageModel
from parakit.tokens import TokenizerConfig, train_tokenizer

TEXT = "the small bird sees a red tree and sings near the old house. "


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """The same random model twice: as a base model, and as one that was tuned to talk."""
    tokenizer = train_tokenizer(iter([TEXT * 20]), TokenizerConfig(vocab_size=300))
    torch.manual_seed(0)
    shape = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "head_dim": 8, "d_ff": 16}
    model = LanguageModel(DecoderConfig(vocab_size=tokenizer.vocab_size, max_seq_len=200, **shape))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    path: Path = tmp_path_factory.mktemp("models")
    return {
        "base": str(save_model(model, tokenizer, path / "base", Lineage("model"))),
        "tuned": str(save_model(model, tokenizer, path / "tuned", Lineage("model", {"chat": True}))),
    }


def test_generate_prints_the_completion_and_json_says_the_same(folders, capsys):
    arguments = [
        folders["base"],
        "the bird",
        "--temperature",
        "0",
        "--max-new-tokens",
        "12",
        "--device",
        "cpu",
    ]
    assert generate.main(arguments) == 0
    text = capsys.readouterr().out
    assert generate.main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert text == figures["text"] + "\n"
    assert figures["n_tokens"] == 12 or figures["finish_reason"] == "stop"
    assert figures["prompting"] == "plain"


def test_generate_reads_standard_input_and_asks_a_tuned_model_by_its_template(folders, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("the bird"))
    assert generate.main([folders["tuned"], "--seed", "1", "--max-new-tokens", "3", "--json"]) == 0
    piped = json.loads(capsys.readouterr().out)
    assert piped["prompting"] == "chat"
    assert (
        generate.main([folders["tuned"], "the bird", "--seed", "1", "--max-new-tokens", "3", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["text"] == piped["text"]


def test_mistakes_of_generate_reach_the_caller(folders):
    with pytest.raises(UserError, match="200"):
        generate.main([folders["base"], "bird " * 200])
    with pytest.raises(UserError, match="--system"):
        generate.main([folders["base"], "the", "--system", "sing"])
    for wrong in (["--temperature", "-1"], ["--temprature", "1"], ["--max-new-tokens", "0"]):
        with pytest.raises((SystemExit, UserError)):
            generate.main([folders["base"], "the", *wrong])


def test_generate_prints_several_completions_beams_and_log_probabilities(folders, capsys):
    common = [folders["base"], "the bird", "--max-new-tokens", "4", "--device", "cpu"]

    def rows(*flags):
        assert generate.main([*common, *flags, "--json"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    seeded = ["--temperature", "2", "--seed", "3"]
    [alone], several = rows(*seeded), rows(*seeded, "--n", "3")
    assert several[0]["text"] == alone["text"]
    assert len({one["text"] for one in several}) == 3
    [one] = rows(*seeded, "--log-probabilities", "2")
    assert len(one["log_probabilities"]) == one["n_tokens"]
    assert all(len(token["alternatives"]) == 2 for token in one["log_probabilities"])
    beams = rows("--n-beams", "4", "--n-beam-groups", "2", "--diversity-penalty", "0.5")
    assert [one["score"] for one in beams] == sorted((one["score"] for one in beams), reverse=True)
    assert len(beams) == 4
    assert (
        generate.main([*common, "--n-beams", "4", "--n-beam-groups", "2", "--diversity-penalty", "0.5"]) == 0
    )
    assert capsys.readouterr().out == beams[0]["text"] + "\n"
    [greedy], [contrast] = rows("--temperature", "0"), rows("--penalty-alpha", "0.9", "--top-k", "8")
    assert greedy["text"] != contrast["text"]
    chosen = ["--temperature", "0", "--log-probabilities", "0"]
    first = rows(*chosen)[0]["log_probabilities"][0]["token_id"]
    [biased] = rows(*chosen, "--logit-bias", json.dumps({str(first): -1000}))
    assert first not in [token["token_id"] for token in biased["log_probabilities"]]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--n-beams", "4", "--temperature", "1"],
            "temperature is a setting of sampling, and n_beams chooses",
        ),
        (["--penalty-alpha", "0.5", "--n", "2"], "n is a setting of sampling, and penalty_alpha chooses"),
        (["--n-beams", "3", "--n-beam-groups", "2"], "n_beams = 3 is no multiple of n_beam_groups = 2"),
        (["--logit-bias", "5"], "logit-bias"),
        (["--logit-bias", '{"9999999": 5}'], "token id 9999999 is not below the vocabulary's size"),
        (["--logit-bias", '{" not one token": 5}'], "' not one token' is [0-9]+ tokens"),
        (["--logit-bias", '{"3": NaN}'], "logit-bias"),
        (["--frequency-penalty", "3"], "frequency-penalty"),
        (["--typical-p", "0"], "typical-p"),
        (["--n", "0"], "--n"),
        (["--min-new-tokens", "9", "--max-new-tokens", "4"], "min_new_tokens = 9 is over max_new_tokens = 4"),
        (["--stop", "x" * 1_000_000], "at most 1000 characters"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(folders, flags, message):
    with pytest.raises(UserError, match=message) as caught:
        generate.main([folders["base"], "the", *flags])
    assert len(caught.value.message) < 2000


def test_chat_keeps_answers_on_standard_output_and_all_else_apart(folders, capsys, monkeypatch):
    lines = ["/temperature 0", "the bird", "/nonsense", "/stats", "/quit", "never reached"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    assert chat.main([folders["tuned"], "--max-new-tokens", "5", "--json"]) == 0
    out, err = capsys.readouterr()
    [answer] = [json.loads(line) for line in out.splitlines()]
    assert set(answer) == {
        *("text", "n_prompt_tokens", "n_tokens", "finish_reason"),
        *("seconds_to_first_token", "tokens_per_second"),
    }
    assert "/nonsense: no such command" in err
    assert "answers: 1" in err
    monkeypatch.setattr("sys.stdin", io.StringIO("/temperature 0\nthe bird"))
    assert chat.main([folders["tuned"], "--max-new-tokens", "5", "--stats"]) == 0
    out, err = capsys.readouterr()
    assert out == answer["text"] + "\n"
    assert f"read {answer['n_prompt_tokens']} tokens, first token after" in err


def test_chat_warns_of_a_model_that_was_not_tuned(folders, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert chat.main([folders["base"]]) == 0
    assert "not tuned for chat" in capsys.readouterr().err


def test_evaluate_measures_text_and_suites_keeps_and_compares(folders, capsys, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    kept = tmp_path / "kept"
    arguments = ["--suites", "--n-suite-items", "8", "--max-new-tokens", "2", "--device", "cpu"]
    assert (
        evaluate.main([folders["tuned"], "--text", str(file), *arguments, "--output", str(kept), "--json"])
        == 0
    )
    figures = json.loads(capsys.readouterr().out)
    assert figures["loss"]["text"]["n_bytes"] == len(TEXT)
    assert figures["suites"]["facts"]["n"] == 8
    assert (kept / "results.json").is_file()
    assert (
        evaluate.main([folders["base"], *arguments, "--prompting", "chat", "--compare", str(kept), "--json"])
        == 0
    )
    compared = json.loads(capsys.readouterr().out)["compared"]
    assert compared["facts"]["difference"] == 0
    assert evaluate.main([folders["base"], "--text", str(file), *arguments]) == 0
    shown = capsys.readouterr().out
    assert "bits/byte" in shown
    assert "95 % interval" in shown
    with pytest.raises(UserError, match="exists already"):
        evaluate.main([folders["base"], "--text", str(file), "--output", str(kept)])


def test_a_decoder_that_learned_on_prefixes_is_said_to_be_read_otherwise(folders, tmp_path, capsys):
    model, tokenizer = load_model(folders["base"])
    learned = save_model(model, tokenizer, tmp_path / "prefix", Lineage("model", {"objective": "prefix"}))
    arguments = ["the bird", "--max-new-tokens", "2", "--device", "cpu"]
    for folder, told in ((str(learned), True), (folders["base"], False)):
        assert generate.main([folder, *arguments]) == 0
        assert ("causally here" in capsys.readouterr().err) is told
