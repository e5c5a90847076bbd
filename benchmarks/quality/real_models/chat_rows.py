"""Rows of `real_models` that train nothing: import, what a model says, its loss, its vectors, its folder, the doctor."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality.real_models import peers
from benchmarks.quality.real_models.data import find_source
from benchmarks.quality.real_models.session import Session, tensors_of
from benchmarks.registry import Figures

QUESTION, PLAIN, ANSWER = "What is the capital of France?", "The capital of France is", "Paris"
TURNS = (QUESTION, "And of Germany?")
N_TOKENS = 24
SENTENCES = (
    "A cat sat on the mat.",
    "a",
    "THE Cat!",
    "Holmes was certainly not a difficult man to live with. " * 40,
)


def import_model(session: Session) -> Figures:
    """Both models: tensors equal to those that transformers makes of the GGUF file, or of the publisher's own file."""
    import transformers

    file = find_source("smollm2")
    peer = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype="float32"
    )
    expected = {name: tensor for name, tensor in peer.state_dict().items() if name != "lm_head.weight"}
    published = tensors_of(find_source("minilm"))
    found: Figures = {"against": "transformers"}
    for name, wanted in (("smollm2", expected), ("minilm", published)):
        mine = tensors_of(session.model(name))
        wanted = {key: tensor for key, tensor in wanted.items() if not key.endswith("position_ids")}
        equal = sum(key in mine and torch.equal(mine[key], tensor) for key, tensor in wanted.items())
        found[name] = {"tensors": len(wanted), "equal": equal, "missing_or_changed": len(wanted) - equal}
    return found


@torch.no_grad()
def _greedy(model: Any, tokenizer: Any, ids: list[int]) -> tuple[str, int]:
    """transformers' greedy continuation, and how many tokens it has without the end of turn."""
    inputs = torch.tensor([ids])
    out = model.generate(
        inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=N_TOKENS,
        pad_token_id=tokenizer.eos_token_id,
    )[0, len(ids) :]  # fmt: skip
    return tokenizer.decode(out, skip_special_tokens=True), int((out != tokenizer.eos_token_id).sum())


def generate(session: Session) -> Figures:
    """A question with automatic prompting, and a text that is continued: greedy."""
    place = session.model("smollm2")
    model, tokenizer = peers.load_peer(place), peers.load_tokenizer(place)
    sampling = ["--temperature", "0", "--max-new-tokens", str(N_TOKENS), "--device", "cpu", "--json"]
    messages = [{"role": "user", "content": QUESTION}]
    prompts = {
        "auto": (
            QUESTION,
            tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False),
        ),
        "plain": (PLAIN, tokenizer(PLAIN)["input_ids"]),
    }
    found: Figures = {"against": "transformers"}
    for prompting, (text, ids) in prompts.items():
        done = json.loads(session.run("generate", place, text, "--prompting", prompting, *sampling)[0])
        expected, n = _greedy(model, tokenizer, ids)
        found[prompting] = {
            "text": done["text"], "tokens": n, "prompt_tokens": done["n_prompt_tokens"],
            "differs": int(done["text"] != expected or done["n_prompt_tokens"] != len(ids)),
        }  # fmt: skip
    found["auto"]["wrong_answer"] = int(ANSWER not in found["auto"]["text"])
    return found


def chat(session: Session) -> Figures:
    """Two turns; the second has the first in its history."""
    place = session.model("smollm2")
    sampling = ["--temperature", "0", "--max-new-tokens", str(N_TOKENS), "--device", "cpu", "--json"]
    out, _ = session.run("chat", place, *sampling, stdin="\n".join(TURNS) + "\n")
    answers = [json.loads(line)["text"] for line in out.splitlines() if line.strip()]
    model, tokenizer = peers.load_peer(place), peers.load_tokenizer(place)
    messages: list[dict[str, str]] = []
    expected, n_tokens = [], 0
    for turn in TURNS:
        messages.append({"role": "user", "content": turn})
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        text, n = _greedy(model, tokenizer, ids)
        messages.append({"role": "assistant", "content": text})
        expected.append(text)
        n_tokens += n
    differs = sum(a != b for a, b in zip(answers, expected, strict=True))
    return {"against": "transformers", "answers": answers, "tokens": n_tokens, "differs": differs}


def evaluate(session: Session) -> Figures:
    """The loss of some of a book."""
    place, text = session.model("smollm2"), session.folder / "page.txt"
    raw = (session.data / "wikitext-2" / "test.txt.gz").read_bytes()
    text.write_text(gzip.decompress(raw).decode()[:2000].strip(), encoding="utf-8")
    words: list[str | Path] = [
        "evaluate",
        place,
        "--text",
        text,
        "--seq-len",
        "1024",
        "--micro-batch-size",
        "1",
        "--device",
        "cpu",
    ]
    (found,) = session.figures(*words)["loss"].values()
    ids = peers.load_tokenizer(place)(text.read_text(encoding="utf-8"), return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = peers.load_peer(place)(ids, labels=ids).loss.item()
    loss = found["loss_nats_per_token"]
    n_tokens = ids.shape[1] - 1
    assert found["n_tokens"] == n_tokens, (found["n_tokens"], n_tokens)
    return {
        "against": "transformers",
        "loss": loss,
        "tokens": n_tokens,
        "largest_difference": abs(loss - expected),
    }


def show(session: Session) -> Figures:
    """Parameters counted, files intact. A sentence vector has no use for BERT's pooler, so neither side counts it."""
    found: Figures = {"against": "transformers"}
    for name, kind, settings in (
        ("smollm2", "AutoModelForCausalLM", {}), ("minilm", "AutoModel", {"add_pooling_layer": False})
    ):  # fmt: skip
        shown = session.figures("show", session.model(name))
        parts = {row["part"]: row["parameters"] for row in shown["figures"]["parameters"]}
        expected = peers.load_peer(session.model(name), kind, **settings).num_parameters()
        found[name] = {"parameters": parts["total"], "difference": parts["total"] - expected}
        found[name]["not_intact"] = int(not shown["intact"])
    return found


def export(session: Session) -> Figures:
    """Both folders exported, and loaded by transformers: logits, vectors and template."""
    found: Figures = {"against": "transformers"}
    for name, kind in (("smollm2", "AutoModelForCausalLM"), ("minilm", "AutoModel")):
        place, out = session.model(name), session.folder / f"export-{name}"
        session.run("export", place, "--output", out)
        source = place if name == "smollm2" else find_source(name)
        before, after = peers.load_tokenizer(source), peers.load_tokenizer(out)
        inputs = dict(before(SENTENCES[0], return_tensors="pt"))
        with torch.no_grad():
            a, b = (peers.load_peer(folder, kind)(**inputs)[0] for folder in (source, out))
        found[name] = {
            "largest_difference": float((a - b).abs().max()),
            "other_ids": int(before(SENTENCES[0])["input_ids"] != after(SENTENCES[0])["input_ids"]),
            "other_template": int(before.chat_template != after.chat_template),
        }
        session.remove(f"export-{name}")
    return found


def predict(session: Session) -> Figures:
    """Sentence vectors, one text longer than the model reads."""
    import sentence_transformers

    out, _ = session.run(
        "predict", session.model("minilm"), "--text", *SENTENCES, "--device", "cpu", "--json"
    )
    vectors = [_vector(json.loads(line)) for line in out.splitlines()]
    peer = sentence_transformers.SentenceTransformer(str(find_source("minilm")), device="cpu")
    expected = torch.tensor(peer.encode(list(SENTENCES)))
    largest = float((torch.tensor(vectors) - expected).abs().max())
    return {"against": "sentence-transformers", "texts": len(SENTENCES), "largest_difference": largest}


def _vector(row: Figures) -> list[float]:
    return next(value for value in row.values() if isinstance(value, list) and isinstance(value[0], float))


def doctor(session: Session) -> Figures:
    """Every kind of data that the other rows train on; a failed check is a false alarm."""
    chats, pairs, book = session.conversations()[0], session.preferences()[0], session.book()
    cases = {
        "conversations": (chats,), "grpo": (chats, "--method", "grpo"), "reward": (pairs, "--method", "reward"),
        "dpo": (pairs, "--method", "dpo"), "book": (book,),
    }  # fmt: skip
    n_checks, alarms = 0, []
    for name, (data, *words) in cases.items():
        command = ["doctor", session.model("smollm2"), "--data", data, *words, "--seq-len", "80", "--json"]
        report = json.loads(session.run(*command, may_fail=True)[0])
        n_checks += sum(not check["skipped"] for check in report["checks"])
        alarms += [f"{name}: {check['name']}" for check in report["checks"] if not check["passed"]]
    return {"against": "healthy data", "checks": n_checks, "false_alarms": len(alarms), "alarms": alarms}


CHAT_ROWS: dict[str, Callable[[Session], Figures]] = {
    "import": import_model, "generate": generate, "chat": chat, "show": show, "doctor": doctor,
    "evaluate": evaluate, "export": export, "predict": predict,
}  # fmt: skip
