"""A base and its conversations in a chat template of words that the base has read.

The plain template puts a turn right behind a control token: its first word has no space before it, so it falls into
other pieces than the base knows, and no `Question:` calls up what the base can do. Full tuning learns both anew; thin
factors hardly can. Here the template says `Question: ` and `Answer:` as the documents do, and answers begin with a space.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from benchmarks.harness import run_process

TEMPLATE = (
    "{{- bos_token -}}{%- for message in messages -%}"
    "{{- {'system': '<|system|>Setting: ', 'user': '<|user|>Question: ', 'assistant': 'Answer:<|assistant|>',"
    " 'tool': '<|tool|>Result: '}[message['role']] -}}{{- message['content'] -}}{{- '<|end|>' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- 'Answer:<|assistant|>' -}}{%- endif -%}"
)


def in_words(build: Path, out: Path) -> Path:
    """A folder with `pretrain` and `conversations`, made once from a build."""
    if (out / "pretrain").is_dir():
        return out
    foreign = out / "foreign"
    shutil.copytree(build / "pretrain", foreign, dirs_exist_ok=True)
    for name in ("lineage.json", "manifest.json"):
        (foreign / name).unlink()
    (foreign / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    talks = out / "conversations"
    talks.mkdir()
    for split in ("train", "validation"):
        lines = (build / "conversations" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        spaced = "".join(json.dumps(_spaced(json.loads(line))) + "\n" for line in lines)
        (talks / f"{split}.jsonl").write_text(spaced, encoding="utf-8")
    run_process([sys.executable, "-m", "parakit.cli.main", "import", foreign, "--output", out / "pretrain"])
    return out


def _spaced(talk: dict[str, list[dict[str, str]]]) -> dict[str, list[dict[str, str]]]:
    messages = [
        message | {"content": " " + message["content"]} if message["role"] == "assistant" else message
        for message in talk["messages"]
    ]
    return {"messages": messages}
