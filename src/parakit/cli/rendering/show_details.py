"""What `parakit show` reports of each kind of folder, as plain data. Never imports torch and builds no model.

A description has: path, kind, what (one line), figures (titled groups), samples (titled texts), lineage (a tree of
parents), files, intact (True; False: not checked; None: no manifest).
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from parakit.cli.rendering.documents.show_index import describe_answers, describe_index
from parakit.cli.rendering.show_corpus import describe_corpus
from parakit.cli.rendering.show_evaluations import (
    RESULTS,
    benchmark_rows,
    describe_evaluation,
    describe_judging,
    describe_red_team,
    suite_rows,
)
from parakit.cli.rendering.show_models import describe_adapter, describe_model, flat
from parakit.cli.rendering.show_sets import describe_examples, describe_preferences
from parakit.cli.rendering.show_shapes import CountReport, ShardIndex
from parakit.cli.rendering.show_sweep import sweep_rows
from parakit.common.artifacts import LINEAGE, MANIFEST, open_artifact, read_lineage, verify_manifest
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, is_file, read_json
from parakit.recipe.build_state import SWEEP
from parakit.reports.summary import read_summary
from parakit.reports.summary_parts import FigureComparison

N_SAMPLES, SAMPLE_CHARS, MAX_DEPTH = 3, 400, 12


def describe(path: str | Path, verify: bool = True, seed: int = 0) -> JsonObject:
    """Describe an artifact, a model folder of any origin, or a build. Raises `UserError` for anything else,
    `CorruptArtifact` naming a file. `seed` draws the pieces of a corpus.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such folder", "check the path")
    if (path / LINEAGE).is_file():
        return _artifact(path, verify, seed)
    from parakit.checkpoints.folder_safety import is_model_folder

    if is_model_folder(path):
        return _published_model(path, verify)
    if (path / "adapter_config.json").is_file():
        what, figures, samples = describe_adapter(path, {})
        what = f"{what}, third-party: it has no lineage"
        return _description(path, "adapter", what, figures, samples, None, None)
    inside = sorted(p for p in path.iterdir() if (p / LINEAGE).is_file()) if path.is_dir() else []
    if inside or (path / SWEEP / RESULTS).is_file():
        return _build(path, inside)
    raise UserError(
        f"{path}: is {'a file' if path.is_file() else 'a folder'} that no parakit command wrote, and it holds "
        f"no model",
        "name a corpus, tokenizer, shards, model or evaluation folder, or the folder of a build",
    )


def one_line(found: JsonObject) -> str:
    """A description in one line."""
    return f"{found['path']}: {found['what']}"


def _artifact(path: Path, verify: bool, seed: int) -> JsonObject:
    artifact = open_artifact(path, verify=verify)
    lineage = artifact.lineage
    figures: JsonObject = {
        "made": {
            "created": lineage.get("created"),
            "by": f"parakit {lineage.get('version')}",
            "seconds": lineage.get("seconds"),
            "seed": lineage.get("seed"),
            "on": _machine(lineage.get("hardware") or {}),
            "digest": artifact.digest,
        }
    }
    samples: dict[str, list[str]] = {}
    what = f"{artifact.kind}, a Parakit artifact"
    readers = READERS | {"corpus": partial(describe_corpus, seed=seed)}
    if reader := readers.get(artifact.kind):
        what, found, samples = reader(path, lineage)
        figures = {title: group for title, group in found.items() if group} | figures
    if lineage.get("config"):
        figures["settings"] = flat(lineage["config"])
    return _description(path, artifact.kind, what, figures, samples, _chain(path, lineage), verify)


def _published_model(path: Path, verify: bool) -> JsonObject:
    if verify and (path / MANIFEST).is_file():
        verify_manifest(path)
    what, figures, samples = describe_model(path, {})
    intact = verify if (path / MANIFEST).is_file() else None
    return _description(
        path, "model", f"{what}, third-party: it has no lineage", figures, samples, None, intact
    )


def _build(path: Path, inside: list[Path]) -> JsonObject:
    rows = []
    for folder in inside:
        lineage = read_lineage(folder)
        n_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        rows.append(
            {
                "folder": folder.name,
                "kind": lineage["kind"],
                "digest": lineage["digest"][:12],
                "bytes": n_bytes,
                "seconds": lineage["seconds"],
            }
        )
    figures: JsonObject = {"artifacts": rows}
    if (path / "summary.json").is_file():
        summary = read_summary(path / "summary.json")
        found = summary.to_dict()
        figures["benchmarks"] = benchmark_rows(found.get("benchmarks") or {})
        figures["suites"] = suite_rows(found.get("suites") or {})
        figures["against the published model"] = _start_rows(summary.against_start)
    swept = read_json(path / SWEEP / RESULTS) if (path / SWEEP / RESULTS).is_file() else None
    what = f"a build with {len(rows)} artifacts; `parakit show` describes each" if rows else "a sweep"
    if swept:
        figures[f"over seeds {', '.join(map(str, swept['seeds']))}"] = sweep_rows(swept)
        what += f"; {len(swept['runs'])} runs, the report is {path / SWEEP / 'report.html'}"
    figures = {title: group for title, group in figures.items() if group}
    return _description(path, "build", what, figures, {}, None, None) | {"files": []}


def _start_rows(comparisons: Sequence[FigureComparison]) -> list[JsonObject]:
    """A row for each figure, with the value of every model."""
    models = dict.fromkeys(model for one in comparisons for model in one.values)
    return [
        {"figure": one.name, "unit": one.unit} | {model: one.values.get(model) for model in models}
        for one in comparisons
    ]


def _description(
    path: Path, kind: str, what: str, figures: Any, samples: Any, lineage: Any, intact: bool | None
) -> JsonObject:
    files = [
        {"name": p.relative_to(path).as_posix(), "size": p.stat().st_size}
        for p in sorted(path.rglob("*"))
        if p.is_file()
    ]
    return {
        "path": str(path),
        "kind": kind,
        "what": what,
        "figures": figures,
        "samples": samples,
        "lineage": lineage,
        "files": files,
        "intact": intact,
    }


def _chain(path: Path, lineage: JsonObject, depth: int = 0) -> JsonObject:
    """The artifact and its parents, as far as they still exist."""
    entry = {key: lineage.get(key) for key in ("kind", "digest", "seconds", "created")}
    parents = (
        [_parent(path, parent, depth) for parent in lineage.get("parents") or []] if depth < MAX_DEPTH else []
    )
    return entry | {"path": str(path), "parents": parents}


def _parent(child: Path, parent: dict[str, str], depth: int) -> JsonObject:
    """The parent at its recorded path, or next to the child where the whole build was moved."""
    recorded = Path(parent["path"])
    candidates = (recorded, child.parent / recorded.name)
    present = [path for path in candidates if is_file(path / LINEAGE)]
    for path in present:
        lineage = read_lineage(path)
        if lineage.get("digest") == parent["digest"]:
            return _chain(path, lineage, depth + 1)
    note = "rebuilt since then" if present else "missing"
    return {**parent, "seconds": None, "created": None, "parents": [], "note": note}


def _conversations(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    from parakit.data.conversations.conversation import read_conversations

    counts = read_json(path / "report.json", CountReport)["splits"]
    shown = islice(read_conversations(path / "train.jsonl"), N_SAMPLES)
    texts = [
        "\n".join(f"{m.role}: {_cut(m.content)}" for m in conversation.messages) for conversation in shown
    ]
    rows = [{"split": name, "conversations": n} for name, n in counts.items()]
    return (
        f"{sum(counts.values()):,} conversations for fine-tuning",
        {"splits": rows},
        {"first conversations": texts},
    )


def _tokenizer(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(path)
    result = lineage.get("result") or {}
    figures = {"kind": tokenizer.kind, "vocabulary": tokenizer.vocab_size}
    figures |= {
        key.replace("_", " "): result[key] for key in ("bytes_per_token", "tokens_per_word") if key in result
    }
    text = "The parrot knows: it is not too late."
    pieces = "|".join(tokenizer.decode([token_id], skip_special=False) for token_id in tokenizer.encode(text))
    groups = {
        "tokenizer": figures,
        "special tokens": dict(sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])),
    }
    return (
        f"a {tokenizer.kind} tokenizer of {tokenizer.vocab_size:,} tokens",
        groups,
        {"tokens of a sentence": [pieces]},
    )


def _shards(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    index = read_json(path / "index.json", ShardIndex)
    rows = [
        {
            "split": name,
            "documents": facts["n_documents"],
            "tokens": facts["n_tokens"],
            "bytes": facts["n_bytes"],
            "bytes per token": facts["n_bytes"] / facts["n_tokens"] if facts["n_tokens"] else None,
            "loss mask": facts["has_loss_mask"],
        }
        for name, facts in index["splits"].items()
    ]
    about = {
        "vocabulary": index["vocab_size"],
        "stored as": index["dtype"],
        "tokenizer": index["tokenizer_digest"][:12],
    }
    return (
        f"token shards: {sum(row['tokens'] for row in rows):,} tokens",
        {"splits": rows, "tokens": about},
        {},
    )


def _machine(hardware: JsonObject) -> str:
    return ", ".join(str(hardware[key]) for key in ("accelerator", "processor") if hardware.get(key))


def _cut(text: str) -> str:
    return text if len(text) <= SAMPLE_CHARS else text[:SAMPLE_CHARS].rstrip() + " ..."


Reader = Callable[[Path, JsonObject], tuple[str, JsonObject, dict[str, list[str]]]]
READERS: dict[str, Reader] = {
    "corpus": describe_corpus,
    "conversations": _conversations,
    "preferences": describe_preferences,
    "examples": describe_examples,
    "tokenizer": _tokenizer,
    "shards": _shards,
    "model": describe_model,
    "adapter": describe_adapter,
    "evaluation": describe_evaluation,
    "red_team": describe_red_team,
    "judging": describe_judging,
    "index": describe_index,
    "answers": describe_answers,
}
