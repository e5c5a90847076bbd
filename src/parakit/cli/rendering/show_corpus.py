"""What `parakit show` reports of a corpus: the facts of its page, as groups of figures and samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parakit.cli.rendering.show_shapes import CorpusReport
from parakit.cli.rendering.skipped_files import skipped_by_reason
from parakit.common.files import JsonObject, read_json
from parakit.reports.corpus_page import corpus_view
from parakit.reports.formatting import humanize


def describe_corpus(
    path: Path, lineage: JsonObject, seed: int = 0
) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """What it is in one line, figures by title, and texts by title."""
    report = read_json(path / "report.json", CorpusReport)
    view = corpus_view(path, seed)
    splits = [
        {"split": name} | {key: split[key] for key in ("documents", "bytes", "sources") if key in split}
        for name, split in view["splits"].items()
    ]
    total = sum(row["documents"] for row in splits)
    counted = {humanize(key): n for key, n in report.items() if isinstance(n, int) and n}
    figures = {
        "splits": splits,
        "warnings": [one | {"remedy": one["remedy"]} for one in view["warnings"]],
        f"sources, by {view['sources']['unit']} of the training split": [
            row | {"share": f"{row['share']:.1%}"} for row in view["sources"]["largest"]
        ],
        "mixture": view.get("mixture", []),
        "files that are odd to the model": [
            {
                "file": row["file"],
                "bits per byte": f"{row['bits_per_byte']:.2f}",
                "of the median": f"{row['times']:.2f}",
            }
            for row in view.get("file_losses", [])
        ],
        "languages": _languages(view["languages"]),
        "files by encoding": view["encodings"],
        "personal data and passwords": _sensitive(view),
        "training documents by length in characters": {
            f"{row['from']:,} to {row['to'] - 1:,}": row["documents"]
            for row in view["splits"]["train"]["lengths"]
        },
        "repeated lines": _lines(view["lines"]),
        "reading": counted,
        "cleaning": [
            {key: step[key] for key in ("step", "n_changed", "n_left_out", "chars_removed")}
            for step in view["cleaning"]
        ],
        f"files left out (skipped_files in {path / 'report.json'} lists them)": skipped_by_reason(report),
    }
    return f"a corpus of {total:,} documents", figures, _samples(view)


def _languages(found: Any) -> JsonObject:
    return (
        {"not known": found}
        if isinstance(found, str)
        else {code: f"{share:.1%}" for code, share in found.items()}
    )


def _lines(lines: JsonObject) -> JsonObject:
    shares = {"share of the text": f"{lines['repeated_share']:.1%}"} if lines.get("repeated_share") else {}
    return shares | {row["line"]: row["count"] for row in lines.get("frequent", [])}


def _sensitive(view: JsonObject) -> list[JsonObject]:
    """A row for each kind; the values are not kept anywhere."""
    kinds = dict.fromkeys(kind for split in view["splits"].values() for kind in split["sensitive"])
    return [
        {"kind": humanize(kind)}
        | {name: split["sensitive"].get(kind, 0) for name, split in view["splits"].items()}
        for kind in kinds
    ]


def _samples(view: JsonObject) -> dict[str, list[str]]:
    """Random pieces of each split, and some of what each step of the cleaning took away."""
    texts = {
        f"random pieces of {name}": [
            f"{one['source']} ({one['id']})\n{one['text']}" for one in split["pieces"]
        ]
        for name, split in view["splits"].items()
        if split["pieces"]
    }
    for step in view["cleaning"]:
        if step["samples"]:
            texts[f"samples of {humanize(step['step'])}"] = [
                _change(sample) for sample in step["samples"][:3]
            ]
    return texts


def _change(sample: JsonObject) -> str:
    after = f"left out: {sample.get('reason')}" if sample["after"] is None else f"after: {sample['after']}"
    return f"{sample['source']}\nbefore: {sample['before']}\n{after}"
