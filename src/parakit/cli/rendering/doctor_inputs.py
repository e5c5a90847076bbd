"""What `parakit doctor` looks at and shows, by the kind of the data: tokens of text, examples, conversations,
preferences, prompts; folders that a command wrote, or files as they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import RenderableType
from rich.text import Text

from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.common.progress import log

if TYPE_CHECKING:
    from parakit.alignment.data_checks import Learner
    from parakit.training.doctor import Finding, TokenView

DoctorMethod = Literal["reward", "dpo", "ppo", "grpo", "best_of_n"]
_FOLDERS = ("shards", "example_shards", "preferences", "conversations")
_PREFERENCE_KEYS = {"chosen", "rejected", "ranking", "completions"}


@dataclass
class Examined:
    """Findings, and what was asked to be shown: for programs and for people."""

    findings: list[Finding]
    shown: list[Any] = field(default_factory=list)
    drawn: list[RenderableType] = field(default_factory=list)


def examined(
    model: str, data: str, split: str, seq_len: int | None, n_shown: int, method: DoctorMethod | None
) -> Examined:
    """Examine a model folder with `data`, and show `n_shown` of its documents."""
    kind = _kind(data, method)
    if kind == "preferences":
        return _preferences(model, data, split, seq_len, n_shown, method)
    if kind == "prompts":
        return _prompts(model, data, split, seq_len, n_shown)
    if method is not None:
        raise UserError(
            f"--method {method} learns from no {kind}", f"give it {_wanted(method)}, or take it out"
        )
    if kind != "conversations":
        return _shards(model, data, split, seq_len, n_shown)
    with tempfile.TemporaryDirectory() as place:
        return _shards(model, str(_compiled(model, data, Path(place))), split, seq_len, n_shown)


def _kind(data: str, method: DoctorMethod | None) -> str:
    """What `data` holds: a folder says it, a file's first row does."""
    path = Path(data)
    if not path.is_file():
        found = open_artifact(path, _FOLDERS, verify=False).kind
    else:
        from parakit.data.readers.rows import RECORD_SUFFIXES, file_suffix, read_records

        if file_suffix(path) not in RECORD_SUFFIXES:
            raise UserError(f"{path}: is no file of rows", f"these are: {', '.join(RECORD_SUFFIXES)}")
        _, row = next(iter(read_records(path)), ("", {}))
        found = "preferences" if isinstance(row, dict) and _PREFERENCE_KEYS & row.keys() else "conversations"
    if found == "conversations" and method in ("ppo", "grpo", "best_of_n"):
        return "prompts"
    if found == "preferences" and method in ("ppo", "grpo", "best_of_n"):
        raise UserError(
            f"{path}: holds preferences, and {method} learns from prompts", "give it conversations"
        )
    return found


def _wanted(method: DoctorMethod) -> str:
    return "preferences" if method in ("reward", "dpo") else "conversations, whose last questions are asked"


def _shards(model: str, data: str, split: str, seq_len: int | None, n_shown: int) -> Examined:
    from parakit.tokens.shards import TokenShards
    from parakit.tokens.tokenizer.tokenizer import Tokenizer
    from parakit.training.doctor import examine_folder, trained_view

    found = Examined(examine_folder(model, data, split, seq_len))
    if n_shown and open_artifact(data, verify=False).kind != "shards":
        raise UserError(f"{data}: --show is for tokens of text", "`parakit show` shows examples")
    if n_shown:
        shards = TokenShards.open(data, split, verify=False)
        for number, view in enumerate(trained_view(Tokenizer.load(model), shards, n_shown), 1):
            n = sum(token.counted for token in view)
            title = f"document {number}: {n} of {len(view)} tokens count (green)"
            found.shown.append(_plain(view))
            found.drawn += [Text(title, "bold"), _drawn(view)]
    return found


def _compiled(model: str, data: str, place: Path) -> Path:
    """Conversations as token shards below `place`, all of a file in the train split."""
    from parakit.data.conversations.sets import prepare_conversations
    from parakit.stages.data import make_conversation_shards, report_skipped

    folder = Path(data)
    if folder.is_file():
        folder = prepare_conversations([data], place / "conversations", validation_fraction=0.0)
    return make_conversation_shards(report_skipped(data, folder), Path(model), place / "shards")


def _preferences(
    model: str, data: str, split: str, seq_len: int | None, n_shown: int, method: DoctorMethod | None
) -> Examined:
    from parakit.alignment.data_checks import examine_rankings, ranking_views
    from parakit.cli.rendering.reward_eval import rankings_of

    learner: Learner | None = "reward" if method == "reward" else "dpo" if method == "dpo" else None
    findings, encoded, tokenizer = examine_rankings(model, list(rankings_of(data, split)), learner, seq_len)
    found = Examined(findings)
    for number, view in enumerate(ranking_views(tokenizer, encoded, n_shown), 1):
        said = {name: _plain(tokens) for name, tokens in view.completions}
        found.shown.append({"prompt": _plain(view.prompt), "completions": said})
        title = f"ranking {number}: {len(view.prompt)} tokens are given, what stands behind ‖ counts (green)"
        found.drawn += [Text(title, "bold"), _drawn(view.prompt)]
        found.drawn += [
            Text.assemble(f"{name} ({len(tokens)} tokens) ", ("‖", "bold yellow"), _drawn(tokens))
            for name, tokens in view.completions
        ]
    return found


def _prompts(model: str, data: str, split: str, seq_len: int | None, n_shown: int) -> Examined:
    from parakit.alignment.data_checks import examine_prompts, prompt_views
    from parakit.alignment.rl.prompts import read_prompts
    from parakit.checkpoints.model_folder import read_config
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(model)
    room = (seq_len or read_config(Path(model)).max_seq_len) - 1
    prompts = read_prompts(Path(data), tokenizer, room, split)
    n_answers = sum(prompt.answer is not None for prompt in prompts)
    longest = max(len(prompt.token_ids) for prompt in prompts)
    log(
        f"{data}: {len(prompts):,} prompts of up to {longest} tokens, {n_answers:,} with a right answer behind"
    )
    found = Examined(examine_prompts(prompts, tokenizer))
    for number, view in enumerate(prompt_views(tokenizer, prompts, n_shown), 1):
        found.shown.append({"prompt": _plain(view.prompt), "answer": view.answer})
        right = f"right answer: {view.answer}" if view.answer is not None else "no right answer is known"
        found.drawn += [Text(f"prompt {number}", "bold"), _drawn(view.prompt), Text(right)]
    return found


def _plain(view: list[TokenView]) -> list[dict[str, object]]:
    return [{"text": t.text, "counted": t.counted, "control": t.control} for t in view]


def _drawn(view: list[TokenView]) -> Text:
    return Text.assemble(*_coloured(view))


def _coloured(view: list[TokenView]) -> Iterator[tuple[str, str]]:
    for token in view:
        colour = "green" if token.counted else "bright_black"
        yield token.text, f"bold {colour} reverse" if token.control else colour
