"""Checks and views of `parakit doctor` by the kind of the data: token shards, examples, conversations, preferences,
prompts; folders that a command wrote, or files.
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
    from parakit.alignment.data_checks import PreferenceMethod
    from parakit.training.doctor import CheckResult, TokenView

DoctorMethod = Literal["reward", "dpo", "ppo", "grpo", "best_of_n"]
_FOLDERS = ("shards", "example_shards", "preferences", "conversations")
_PREFERENCE_KEYS = {"chosen", "rejected", "ranking", "completions"}


@dataclass
class Report:
    """Results, and the documents of --show: `shown` for JSON, `views` for the terminal."""

    results: list[CheckResult]
    shown: list[Any] = field(default_factory=list)
    views: list[RenderableType] = field(default_factory=list)


def check_data(
    model: str, data: str, split: str, seq_len: int | None, n_shown: int, method: DoctorMethod | None
) -> Report:
    """Check a model folder with `data`, and show `n_shown` of its documents."""
    kind = _kind(data, method)
    if kind == "preferences":
        return _preferences(model, data, split, seq_len, n_shown, method)
    if kind == "prompts":
        return _prompts(model, data, split, seq_len, n_shown)
    if method is not None:
        raise UserError(
            f"--method {method} does not train on {kind}", f"give it {_data_of(method)}, or leave it out"
        )
    if kind != "conversations":
        return _shards(model, data, split, seq_len, n_shown)
    with tempfile.TemporaryDirectory() as folder:
        return _shards(model, str(_compiled(model, data, Path(folder))), split, seq_len, n_shown)


def _kind(data: str, method: DoctorMethod | None) -> str:
    """The kind of `data`: of a folder by its lineage, of a file by its first row."""
    path = Path(data)
    if not path.is_file():
        kind = open_artifact(path, _FOLDERS, verify=False).kind
    else:
        from parakit.data.readers.rows import RECORD_SUFFIXES, file_suffix, read_records

        if file_suffix(path) not in RECORD_SUFFIXES:
            raise UserError(f"{path}: is not a file of rows", f"these are: {', '.join(RECORD_SUFFIXES)}")
        _, row = next(iter(read_records(path)), ("", {}))
        kind = "preferences" if isinstance(row, dict) and _PREFERENCE_KEYS & row.keys() else "conversations"
    if kind == "conversations" and method in ("ppo", "grpo", "best_of_n"):
        return "prompts"
    if kind == "preferences" and method in ("ppo", "grpo", "best_of_n"):
        raise UserError(f"{path}: has preferences, and {method} trains on prompts", "give it conversations")
    return kind


def _data_of(method: DoctorMethod) -> str:
    return (
        "preferences"
        if method in ("reward", "dpo")
        else "conversations, whose last questions are the prompts"
    )


def _shards(model: str, data: str, split: str, seq_len: int | None, n_shown: int) -> Report:
    from parakit.tokens.shards import TokenShards
    from parakit.tokens.tokenizer.tokenizer import Tokenizer
    from parakit.training.doctor import check_folder, document_views

    report = Report(check_folder(model, data, split, seq_len))
    if n_shown and open_artifact(data, verify=False).kind != "shards":
        raise UserError(f"{data}: --show needs token shards", "use `parakit show` for examples")
    if n_shown:
        shards = TokenShards.open(data, split, verify=False)
        for number, view in enumerate(document_views(Tokenizer.load(model), shards, n_shown), 1):
            n = sum(token.counted for token in view)
            title = f"document {number}: {n} of {len(view)} tokens count (green)"
            report.shown.append(_as_json(view))
            report.views += [Text(title, "bold"), _as_text(view)]
    return report


def _compiled(model: str, data: str, work: Path) -> Path:
    """Conversations as token shards below `work`; a file becomes the train split."""
    from parakit.data.conversations.sets import prepare_conversations
    from parakit.stages.data import make_conversation_shards, report_skipped

    folder = Path(data)
    if folder.is_file():
        folder = prepare_conversations([data], work / "conversations", validation_fraction=0.0)
    return make_conversation_shards(report_skipped(data, folder), Path(model), work / "shards")


def _preferences(
    model: str, data: str, split: str, seq_len: int | None, n_shown: int, method: DoctorMethod | None
) -> Report:
    from parakit.alignment.data_checks import check_rankings, ranking_views
    from parakit.evaluation.preferences import read_rankings

    trained_by: PreferenceMethod | None = (
        "reward" if method == "reward" else "dpo" if method == "dpo" else None
    )
    results, encoded, tokenizer = check_rankings(model, list(read_rankings(data, split)), trained_by, seq_len)
    report = Report(results)
    for number, view in enumerate(ranking_views(tokenizer, encoded, n_shown), 1):
        completions = {name: _as_json(tokens) for name, tokens in view.completions}
        report.shown.append({"prompt": _as_json(view.prompt), "completions": completions})
        title = f"ranking {number}: a prompt of {len(view.prompt)} tokens; the tokens after ‖ count (green)"
        report.views += [Text(title, "bold"), _as_text(view.prompt)]
        report.views += [
            Text.assemble(f"{name} ({len(tokens)} tokens) ", ("‖", "bold yellow"), _as_text(tokens))
            for name, tokens in view.completions
        ]
    return report


def _prompts(model: str, data: str, split: str, seq_len: int | None, n_shown: int) -> Report:
    from parakit.alignment.data_checks import check_rollout_prompts, prompt_views
    from parakit.alignment.rl.prompts import read_prompts
    from parakit.checkpoints.loading import read_config
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(model)
    max_prompt = (seq_len or read_config(Path(model)).max_seq_len) - 1
    prompts = read_prompts(Path(data), tokenizer, max_prompt, split)
    n_answers = sum(prompt.answer is not None for prompt in prompts)
    longest = max(len(prompt.token_ids) for prompt in prompts)
    log(f"{data}: {len(prompts):,} prompts of up to {longest} tokens, {n_answers:,} with a reference answer")
    report = Report(check_rollout_prompts(prompts, tokenizer))
    for number, view in enumerate(prompt_views(tokenizer, prompts, n_shown), 1):
        report.shown.append({"prompt": _as_json(view.prompt), "answer": view.answer})
        right = f"reference answer: {view.answer}" if view.answer is not None else "no reference answer"
        report.views += [Text(f"prompt {number}", "bold"), _as_text(view.prompt), Text(right)]
    return report


def _as_json(view: list[TokenView]) -> list[dict[str, object]]:
    return [{"text": t.text, "counted": t.counted, "control": t.control} for t in view]


def _as_text(view: list[TokenView]) -> Text:
    return Text.assemble(*_coloured(view))


def _coloured(view: list[TokenView]) -> Iterator[tuple[str, str]]:
    for token in view:
        colour = "green" if token.counted else "bright_black"
        yield token.text, f"bold {colour} reverse" if token.control else colour
