"""The page of a corpus: what a model sees of it before it is trained, with warnings; as self-contained as the build's report.

Every text of a document or a file name passes through the template's autoescape.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parakit.common.artifacts import open_artifact
from parakit.common.files import JsonObject, read_json, write_text_atomic
from parakit.common.formatting import byte_size, compact, number, percent
from parakit.common.lineages import made_from, shards_of
from parakit.data.overview import corpus_overview, with_tokens
from parakit.reports import charts
from parakit.reports.formatting import humanize
from parakit.reports.rendering import CORPUS_PAGE, page_template
from parakit.training.doctor.corpus import check_corpus

_SECRETS = ("password", "private_key", "access_key", "web_token", "credentials_in_url")
MAX_LANGUAGES = 8


def corpus_view(corpus: str | Path, seed: int = 0) -> JsonObject:
    """The overview of a corpus (`data.overview`), with "warnings": [{what, remedy}], and the sources in tokens where token
    shards of it are next to it.
    """
    corpus = Path(corpus)
    view = corpus_overview(corpus, seed)
    report = read_json(corpus / "report.json")
    for shards in shards_of(corpus)[:1]:
        index = read_json(shards / "index.json")
        view = with_tokens(view, index)
        report |= index.get("corpus", {})
    checks = check_corpus(report)
    warnings = [{"what": one.detail, "remedy": one.remedy} for one in checks if not one.passed]
    return view | {"warnings": warnings + _about_secrets(view), "file_losses": _file_losses(corpus)}


def write_corpus_page(corpus: str | Path, path: str | Path, seed: int = 0) -> Path:
    """Write the page of `corpus` to `path`, whole or not at all."""
    page = render_corpus_page(
        corpus_view(corpus, seed), Path(corpus).resolve().name, _key(Path(corpus), seed)
    )
    write_text_atomic(path, page)
    return Path(path)


def refresh_corpus_page(corpus: Path, path: Path) -> None:
    """Write the page unless it is there already, of this corpus and the shards next to it."""
    key = _key(corpus, 0)
    if path.is_file() and f'content="{key}"' in path.read_text(encoding="utf-8")[:2000]:
        return
    write_corpus_page(corpus, path)


def render_corpus_page(view: JsonObject, name: str, key: str = "") -> str:
    """The page as HTML text."""
    sources = view["sources"]
    write = compact if sources["unit"] == "tokens" else byte_size
    languages = view["languages"] if isinstance(view["languages"], dict) else {}
    page = {
        "v": view,
        "name": name,
        "key": key,
        "tiles": _tiles(view),
        "sources": [
            {"file": row["file"], "size": write(row[sources["unit"]]), "share": row["share"]}
            for row in sources["largest"]
        ],
        "languages": charts.slices(dict(list(languages.items())[:MAX_LANGUAGES]), percent)
        if languages
        else [],
        "lengths": _lengths(view),
        "sensitive": _sensitive(view),
        "duplicates": [(humanize(what), number(n)) for what, n in view["duplicates"].items()],
        "formats": [
            (what, number(n)) for what, n in sorted(view["formats"].items(), key=lambda one: -one[1])
        ],
        "encodings": [(what, number(n)) for what, n in view["encodings"].items()],
    }
    return page_template(CORPUS_PAGE).render(page)


def _key(corpus: Path, seed: int) -> str:
    """What the page depends on."""
    digests = [open_artifact(path, verify=False).digest[:16] for path in (corpus, *shards_of(corpus)[:1])]
    return "-".join([*digests, str(seed)])


def _file_losses(corpus: Path) -> list[JsonObject]:
    """The files that are odd to the last run on the corpus, each with the run's name."""
    found: list[JsonObject] = []
    for shards in shards_of(corpus):
        for path, lineage in made_from(shards):
            rows = (lineage.get("result") or {}).get("file_losses") or []
            found = [{"run": path.name} | row for row in rows] or found
    return found


def _about_secrets(view: JsonObject) -> list[JsonObject]:
    counts = {
        kind: sum(one["sensitive"].get(kind, 0) for one in view["splits"].values()) for kind in _SECRETS
    }
    named = ", ".join(f"{humanize(kind)} {n:,}" for kind, n in counts.items() if n)
    remedy = "take them out of the files, or clean them away with the step personal_data, before a model learns them"
    return [{"what": f"passwords or keys are in the text: {named}", "remedy": remedy}] if named else []


def _tiles(view: JsonObject) -> list[tuple[str, str, str]]:
    """Name, value, note."""
    splits = view["splits"]
    return [
        (f"{name} documents", number(split["documents"]), byte_size(split["bytes"]))
        for name, split in splits.items()
    ]


def _lengths(view: JsonObject) -> list[JsonObject]:
    """A bar for each class of lengths of the training documents, in per cent of the tallest."""
    rows = view["splits"]["train"]["lengths"]
    rows = rows[next((i for i, row in enumerate(rows) if row["documents"]), 0) :]
    tallest = max((row["documents"] for row in rows), default=1) or 1
    return [
        {
            "name": f"{row['from']:,} to {row['to'] - 1:,}",
            "n": number(row["documents"]),
            "width": round(100 * row["documents"] / tallest, 1),
        }
        for row in rows
    ]


def _sensitive(view: JsonObject) -> list[tuple[str, list[Any]]]:
    """A row for each kind, with its number in each split."""
    kinds = dict.fromkeys(kind for split in view["splits"].values() for kind in split["sensitive"])
    return [
        (humanize(kind), [number(split["sensitive"].get(kind, 0)) for split in view["splits"].values()])
        for kind in kinds
    ]
