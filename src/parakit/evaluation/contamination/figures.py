"""How many of a benchmark's items were found in text, and the scores with and without them.

`BenchmarkResult.contamination` holds: `method`, its parameters; `texts`, what was searched, with digests; `unknown`, what
else the model was trained on; and where something was searched `n`, the items long enough to tell, `n_too_short`, those
whose question is too short and that were not found with their answer either, `n_touched`, of these `n_most` (of which
`MOST` of the words were found) and `n_with_answer` (of which words of the answer were), `share` of the touched with its
95 % interval, `touched` by item, and `scores_without` and `scores_touched`: the scores without the touched items, and of
these alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.formatting import percent
from parakit.common.progress import OnProgress, log
from parakit.data.duplicates.run_table import MAX_ITEMS
from parakit.evaluation.contamination.item_runs import MIN_WORDS, N_WORDS
from parakit.evaluation.contamination.search import ItemSearch
from parakit.evaluation.contamination.texts import Digested, TrainingTexts
from parakit.evaluation.intervals import wilson_interval
from parakit.evaluation.results import BenchmarkResult, Item, summarize_items

METHOD: JsonObject = {
    "name": "runs of words",
    "version": 1,
    "n_words": N_WORDS,
    "min_words": MIN_WORDS,
    "max_items": MAX_ITEMS,
}
MOST = 0.7  # of an item's words: nearly all of it (Chowdhery et al. 2022, section 8)


class TextSearch:
    """A search for `items`, by benchmark, that reads each text once, also where several models share texts."""

    def __init__(self, items: Mapping[str, Sequence[Item]]) -> None:
        self._items = items
        self._search = ItemSearch({})
        self._read: dict[str, JsonObject] = {}

    def read(
        self, texts: TrainingTexts, advance: OnProgress | None = None, *, strict: bool = False
    ) -> JsonObject:
        """Search exactly `texts`; returns what is the same for all benchmarks. `advance` is called with bytes.

        A text that cannot be read, or has changed, is among the unknown ones, so that what was evaluated is not lost; with
        `strict` it is a `UserError`.
        """
        wanted = {text.digest or text.path: text for text in texts.texts}
        if not self._read or not self._read.keys() <= wanted.keys():
            self._search, self._read = ItemSearch(self._items if wanted else {}), {}
        unknown = list(texts.unknown)
        for key, text in wanted.items():
            if key in self._read:
                continue
            documents = Digested(text.documents())
            log(f"contamination: searching {text.path} ({text.kind})")
            try:
                for n_bytes in self._search.read(documents):
                    if advance is not None:
                        advance(n_bytes)
            except (UserError, OSError) as error:
                if strict:
                    raise
                reason = error.message if isinstance(error, UserError) else str(error)
                unknown.append(reason if text.path in reason else f"{text.kind} {text.path}: {reason}")
                log(f"warning: contamination: {unknown[-1]}")
                continue
            self._read[key] = {
                "path": text.path,
                "kind": text.kind,
                "digest": text.digest or documents.digest,
                "n_documents": documents.n_documents,
                "n_bytes": documents.n_bytes,
            }
        return {
            "method": METHOD,
            "texts": [self._read[key] for key in wanted if key in self._read],
            "unknown": unknown,
        }

    def figures(self, name: str) -> JsonObject:
        """The counts of a benchmark, and its touched items; empty where no text was read."""
        return _figures(self._search, name, len(self._items[name])) if self._read else {}


def find_contamination(
    benchmarks: Mapping[str, BenchmarkResult],
    texts: TrainingTexts,
    advance: OnProgress | None = None,
    search: TextSearch | None = None,
    *,
    strict: bool = False,
) -> dict[str, BenchmarkResult]:
    """`benchmarks`, by name, with `contamination`. `advance` is called with the bytes of text that were searched. `search`:
    one for the same items that may have read some of the texts. `strict`: as for `TextSearch.read`.
    """
    search = search or TextSearch({name: one.items for name, one in benchmarks.items()})
    searched = search.read(texts, advance, strict=strict)
    found = {}
    for name, result in benchmarks.items():
        figures = searched | search.figures(name)
        touched = figures.get("touched", {})
        if touched:
            figures["scores_without"] = _scores(result, [i for i in result.items if i.id not in touched])
            figures["scores_touched"] = _scores(result, [i for i in result.items if i.id in touched])
        found[name] = dataclasses.replace(result, contamination=figures)
    return found


def _figures(search: ItemSearch, name: str, n_items: int) -> JsonObject:
    touched = search.touched(name)
    n_too_short = len(set(search.too_short(name)) - touched.keys())
    n = n_items - n_too_short
    low, high = wilson_interval(len(touched), n)
    return {
        "n": n,
        "n_too_short": n_too_short,
        "n_touched": len(touched),
        "n_most": sum(one.share >= MOST for one in touched.values()),
        "n_with_answer": sum(one.answer for one in touched.values()),
        "share": len(touched) / n if n else None,
        "low": low,
        "high": high,
        "touched": {item: dataclasses.asdict(one) for item, one in touched.items()},
    }


def describe_contamination(found: JsonObject | None) -> str:
    """In a few words, such as `0.3 % (3 of 1,000 items)`."""
    text = contamination_share(found)
    if not found or not found.get("n"):
        return text
    counts = f"{found['n_touched']:,} of {found['n']:,} items"
    return (
        f"{text} ({counts}; part of the training text is unknown)"
        if found["unknown"]
        else f"{text} ({counts})"
    )


def contamination_share(found: JsonObject | None) -> str:
    """In one or two words: `0.3 %`, or why there is no share."""
    if found is None:
        return "not searched"
    if not found["texts"]:
        return "unknown"
    return percent(found["share"]) if found["n"] else "too short"


def _scores(result: BenchmarkResult, items: Sequence[Item]) -> JsonObject:
    """The scores of some of the items, as plain data; without those that are no mean over the items."""
    lower = [name for name, score in result.scores.items() if not score.higher_is_better]
    every = summarize_items(result.protocol, result.items, result.main, lower_is_better=lower).scores
    found = summarize_items(result.protocol, items, result.main, lower_is_better=lower).scores
    return {
        name: dataclasses.asdict(score)
        for name, score in found.items()
        if name in result.scores and math.isclose(every[name].value, result.scores[name].value, abs_tol=1e-9)
    }
