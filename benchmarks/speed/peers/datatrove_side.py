"""datatrove's side of `cleaning`: its filters as they are, run by the interpreter of its own environment.

Standard input: a JSON object {"texts": path of JSON lines, "steps": names}. The last line of the output has, for each step, the
seconds of all texts and which of them stay.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def _filters() -> dict[str, Any]:
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter

    return {
        "repair_text": lambda: FTFYFormatter(),
        "gopher": lambda: GopherQualityFilter(),
        "gopher_repetition": lambda: GopherRepetitionFilter(),
        "c4": lambda: C4QualityFilter(),
        "fineweb": lambda: FineWebQualityFilter(),
        "personal_data": lambda: PIIFormatter(),
    }


def main() -> None:
    """Run the steps one after another, each on every text."""
    from datatrove.data import Document
    from datatrove.utils.text import split_into_parts

    spec = json.loads(sys.stdin.read())
    with open(spec["texts"], encoding="utf-8") as file:
        texts = [json.loads(line) for line in file]
    figures = {}
    for name in spec["steps"]:
        step = _filters()[name]()
        for text in texts[:2]:  # loads the tokenizer
            _run(step, Document(text=text, id=""))
        split_into_parts.cache_clear()
        started = time.perf_counter()
        kept = [_run(step, Document(text=text, id="")) for text in texts]
        figures[name] = {"seconds": time.perf_counter() - started, "kept": kept}
    print(json.dumps(figures))


def _run(step: Any, document: Any) -> bool:
    if hasattr(step, "format"):
        step.format(document.text)
        return True
    found = step.filter(document)
    return found if isinstance(found, bool) else found[0]


if __name__ == "__main__":
    main()
