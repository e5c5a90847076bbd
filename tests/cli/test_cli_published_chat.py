"""A published chat model is prompted by its template, stops where its settings say, and is tuned without an objection."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import parakit
from parakit.cli.main import main
from parakit.common import UserError
from parakit.inference.folder_settings import is_chat_tuned
from parakit.tokens import Tokenizer
from parakit.tokens.chat.template import stop_ids
from tests.contracts.training_cases import CONVERSATIONS
from tests.published_families import FAMILIES, write_model, write_tokenizer

transformers = pytest.importorskip("transformers")
QUICK = [
    "--max-steps",
    "2",
    "--batch-tokens",
    "256",
    "--seq-len",
    "128",
    "--compile",
    "off",
    "--device",
    "cpu",
]


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("models")

    def folder(name: str) -> Path:
        return root / name if (root / name).is_dir() else write_model(name, root / name)

    return folder


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    lines = [
        {"messages": [{"role": m.role, "content": m.content} for m in c.messages]} for c in CONVERSATIONS
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def reference_answer(folder: Path, question: str, n_tokens: int, **settings: object) -> list[int]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    out = model.generate(**ids, max_new_tokens=n_tokens, do_sample=False, **settings)
    return out[0, ids["input_ids"].shape[1] :].tolist()


def test_the_template_is_chosen_and_named(
    model_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = model_of("smollm2")
    assert main(["generate", str(folder), "the old bird", "--max-new-tokens", "8", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert err.count("--prompting plain") == 1
    ids = reference_answer(folder, "the old bird", 8)
    assert out.rstrip("\n") == Tokenizer.load(folder).decode(ids).rstrip("\n")
    assert main(["generate", str(model_of("gpt2")), "the", "--max-new-tokens", "2", "--device", "cpu"]) == 0
    assert "--prompting chat" in capsys.readouterr().err


def test_chat_does_not_doubt_it(
    model_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the bird\n"))
    assert main(["chat", str(model_of("llama3")), "--max-new-tokens", "3", "--device", "cpu"]) == 0
    assert "not tuned" not in capsys.readouterr().err


def test_chat_without_a_template_says_what_the_model_can_do(
    model_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        ["chat", str(model_of("gpt2"))],
        ["generate", str(model_of("gpt2")), "a", "--prompting", "chat"],
    ):
        assert main([*command, "--device", "cpu"]) != 0
        assert "--prompting plain" in capsys.readouterr().err


def test_a_template_that_fails_is_named_and_can_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model("gpt2", tmp_path / "broken")
    (folder / "chat_template.jinja").write_text("{{ messages[0].content | no_such_filter }}")
    command = ["generate", str(folder), "the old bird", "--max-new-tokens", "3", "--device", "cpu"]
    assert main(command) != 0
    assert "--prompting plain" in capsys.readouterr().err
    assert main([*command, "--prompting", "plain"]) == 0


def test_a_system_prompt_that_a_template_refuses_is_named(model_of: Callable[[str], Path]) -> None:
    model = parakit.load(model_of("gemma"), device="cpu")
    with pytest.raises(UserError, match="System role not supported"):
        model.chat([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_end_that_the_settings_name_stops(name: str, model_of: Callable[[str], Path]) -> None:
    tokenizer = Tokenizer.load(model_of(name))
    wanted = {tokenizer.token_id(string) for string in FAMILIES[name].eos_token_ids}
    assert wanted <= set(stop_ids(tokenizer))


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_an_answer_ends_at_each_of_several_ends(
    file: str, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = write_model("qwen2", tmp_path / "model")
    ids = reference_answer(folder, "the old bird", 12)
    second = ids[len(ids) // 2]
    (folder / "generation_config.json").unlink()
    content = json.loads((folder / "config.json").read_text()) if file == "config.json" else {}
    (folder / file).write_text(json.dumps(content | {"eos_token_id": [2, second]}))
    model = parakit.load(folder, device="cpu")
    stream = model.stream([{"role": "user", "content": "the old bird"}], max_new_tokens=12, temperature=0.0)
    list(stream)
    assert list(stream.completion.token_ids) == ids[: ids.index(second) + 1]
    assert stream.completion.finish_reason == "stop"


def test_whether_a_model_talks_is_read_from_its_template_and_settings(tmp_path: Path) -> None:
    for name, family in FAMILIES.items():
        folder = write_tokenizer(name, tmp_path / name)
        assert is_chat_tuned(folder) is (family.template is not None)
    (tmp_path / "qwen2" / "lineage.json").write_text(json.dumps({"result": {"chat": False}}))
    assert not is_chat_tuned(tmp_path / "qwen2")  # Parakit tuned it on plain text
    (tmp_path / "gpt2" / "tokenizer_config.json").write_text(
        json.dumps(
            {"chat_template": [{"name": "rag", "template": "a"}, {"name": "default", "template": "b"}]}
        )
    )
    assert is_chat_tuned(tmp_path / "gpt2")


@pytest.mark.parametrize(
    "name", ["smollm2", *(pytest.param(n, marks=pytest.mark.long) for n in ("qwen2", "llama3"))]
)
def test_lora_on_it_is_plain_factors(
    name: str, model_of: Callable[[str], Path], chats: Path, tmp_path: Path
) -> None:
    assert main(["import", str(model_of(name)), "--output", str(tmp_path / "model")]) == 0
    command = ["finetune", str(tmp_path / "model"), "--conversations", str(chats), "--method", "lora"]
    assert main([*command, "--output", str(tmp_path / "adapter"), *QUICK]) == 0
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert not settings.get("modules_to_save")
    assert not settings.get("trainable_token_indices")
    assert is_chat_tuned(tmp_path / "adapter")


@pytest.mark.long
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_real_model_is_tuned_without_an_objection(
    method: str, smollm2_folder: Path, chats: Path, tmp_path: Path
) -> None:
    assert main(["import", str(smollm2_folder), "--output", str(tmp_path / "model")]) == 0
    command = ["finetune", str(tmp_path / "model"), "--conversations", str(chats), "--method", method]
    assert main([*command, "--output", str(tmp_path / "tuned"), *QUICK]) == 0
