"""An assistant for a folder of documents from one command: recipes/documents-assistant.yaml on about fifty encyclopaedia
articles and the published model of 135M parameters.

The build measures itself, on passages that it holds out of training: retrieval, answers closed-book and open-book, refusals
of questions whose documents are left out of the search, citations. A few of these questions are put to `parakit
ask BUILD` as well, as a person would.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.harness import DATA, ROOT, kept_or_measured, run_parakit, work_folder
from benchmarks.quality.documents.articles import write_long_articles
from benchmarks.registry import NO_TARGET, Figures, benchmark

RECIPE = ROOT / "recipes" / "documents-assistant.yaml"
N_SHOWN = 3  # questions of each kind


@benchmark("document_assistant", {
    "build.seconds": ("<= 1500", "from the folder to the measured assistant, seconds"),
    "build.processor_seconds": (NO_TARGET, "the same, seconds of processor time"),
    "answers.tuned.gain_of_documents": ("> 0", "tuned model: right answers open-book minus closed-book"),
    "answers.*.open_book": (NO_TARGET, "{0} model: right answers open-book"),
    "answers.*.closed_book": (NO_TARGET, "{0} model: right answers closed-book"),
    "answers.*.refused_unanswerable": (NO_TARGET, "{0} model: questions without an answer that are refused"),
    "answers.*.refused_answerable": (NO_TARGET, "{0} model: questions with an answer that are refused"),
    "answers.*.citations_in_their_passage": ("== 1", "{0} model: citations whose span is in their passage"),
})  # fmt: skip
def document_assistant(
    *,
    data: Path = DATA,
    start: Path | None = None,
    settings: tuple[str, ...] = (),
    work: Path | None = None,
) -> Figures:
    """`start` None: the model that `make real-models` fetched. `settings` of the recipe, KEY=VALUE, change it; `work` keeps
    the build, so that an interrupted run continues.
    """
    with work_folder(work) as folder:
        documents = folder / "articles"
        n_documents = write_long_articles(data, documents)
        words = [f"index.paths=[{documents}]", *([f"start={start}"] if start else []), *settings]
        flags = [word for setting in words for word in ("--set", setting)]
        made = folder / "builds" / "documents-assistant"

        def build() -> Figures:
            done = run_parakit(
                "build", RECIPE, *flags, "--builds", folder / "builds", "--json", timeout=14_000
            )
            return {
                "seconds": done.seconds,
                "processor_seconds": done.processor_seconds,
                "peak_memory_mib": done.peak_memory_mib,
            }

        figures: Figures = {"documents": n_documents, "settings": list(settings)}
        figures["build"] = kept_or_measured(folder / "build.json", build)
        results = json.loads((made / "answers" / "results.json").read_text(encoding="utf-8"))
        figures["retrieval"], figures["threshold"] = results["retrieval"], results["threshold"]
        figures["answers"] = {name: _shares(found) for name, found in results["answers"].items()}
        return figures | {"samples": [_answer_of(made, question) for question in _shown(results["samples"])]}


def _shares(found: Figures) -> Figures:
    """The values, with the intervals next to them."""
    values = {name: one["value"] if isinstance(one, dict) else one for name, one in found.items()}
    intervals = {name: [one["low"], one["high"]] for name, one in found.items() if isinstance(one, dict)}
    gain = {"gain_of_documents": values["open_book"] - values["closed_book"]}
    n_cited = values["n_citations"]
    share = {"citations_in_their_passage": values["citations_in_their_passage"] / n_cited if n_cited else 1.0}
    return values | gain | share | {"intervals": intervals}


def _shown(samples: list[Figures]) -> list[str]:
    """Some questions that were answered right, and some that were not."""
    return [
        one["question"]
        for right in (True, False)
        for one in [sample for sample in samples if sample["right"] is right][:N_SHOWN]
    ]


def _answer_of(build: Path, question: str) -> Figures:
    """What `parakit ask BUILD` prints of a question."""
    answer = run_parakit("ask", build, question, "--max-new-tokens", "48", "--json").figures
    cited = [{"source": one["source"], "quote": one["quote"]} for one in answer["citations"]]
    return {
        "question": question,
        "answer": answer["answer"],
        "refused": answer["refused"],
        "citations": cited,
    }
