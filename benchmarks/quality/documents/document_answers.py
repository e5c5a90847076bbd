"""Answers from 200 documents with known facts: a published chat model closed-book, open-book, and tuned on the index's data.

The documents describe places that do not exist, so nothing is known without them. Questions are worded here, about passages
that are held out of the training data that the index gives; 100 have an answer, and of 100 others half are about places of
which there is no document, half about what no document states. The threshold is fitted on questions that rules make about
the other passages. The tuned model is a LoRA on conversations of `parakit index data`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import kept_or_measured, run_parakit, work_folder
from benchmarks.registry import NO_TARGET, Figures, benchmark

N_DOCUMENTS, N_QUESTIONS = 200, 100
N_PASSAGES = (
    1  # of an answer, in training and in measuring: the first one found is the right one for every question
)
ROWS = f"--n-passages {N_PASSAGES} --refusal-share 0.4 --wordings 1"
TUNING = "--method lora --rank 16 --learning-rate 1e-3 --batch-tokens 1200 --validate-every 1000 --before-after none"
_STARTS = [
    "Al",
    "Bren",
    "Cor",
    "Dal",
    "Er",
    "Fen",
    "Gar",
    "Hol",
    "Is",
    "Jor",
    "Kel",
    "Lor",
    "Mar",
    "Nor",
    "Os",
    "Pel",
    "Quin",
]
_STARTS += ["Ros", "Sel", "Tor"]
_ENDS = ["amoor", "brook", "cester", "dale", "ford", "gate", "haven", "ingham", "kirk", "ley"]
_FIRST = ["Ada", "Boris", "Clara", "Dmitri", "Edith", "Farid", "Greta", "Henrik", "Ines", "Jonas"]
_LAST = ["Abbott", "Brandt", "Castell", "Dumas", "Eriksen", "Falk", "Grieg", "Holm", "Ivers", "Jansen"]
_RIVERS = ["Amber", "Birch", "Cedar", "Drift", "Elder", "Frost", "Glass", "Hazel", "Iron", "Juniper"]
_ASKED = {
    "founded": "In which year was {name} founded?",
    "bridges": "How many bridges does {name} have?",
    "architect": "Who designed the town hall of {name}?",
    "river": "On which river does {name} lie?",
}
_UNSTATED = (
    "Who is the richest person of {name}?",
    "What do people in {name} eat for breakfast?",
    "How many cinemas does {name} have?",
    "Which football club plays in {name}?",
)


@dataclass(frozen=True)
class Place:
    """A place and its facts."""

    name: str
    facts: dict[str, str]

    def text(self) -> str:
        """Its document."""
        name, facts = self.name, self.facts
        return (
            f"# {name}\n\n{name} is a small town with a market. The town of {name} was founded in {facts['founded']}. There"
            f" are {facts['bridges']} bridges in the town. Its town hall was designed by {facts['architect']}. {name} lies on"
            f" the river in {facts['river']} Valley, and the river is the {facts['river']}. Most people there work in the"
            " mills.\n"
        )


@benchmark("document_answers", {
    "tuned.refused_unanswerable": (">= 0.8", "tuned model: questions without an answer that are refused"),
    "tuned.refused_answerable": ("<= 0.1", "tuned model: questions with an answer that are refused"),
    "*.citations_in_their_passage": ("== 1", "{0} model: citations whose span is in their passage"),
    "*.gain_of_documents": ("> 0", "{0} model: right answers open-book minus closed-book"),
    "*.open_book": (NO_TARGET, "{0} model: right answers open-book"),
    "*.closed_book": (NO_TARGET, "{0} model: right answers closed-book"),
})  # fmt: skip
def document_answers(
    *,
    model: Path | None = None,
    encoder: Path | None = None,
    work: Path | None = None,
    questions: int = N_QUESTIONS,
    max_steps: int = 30,
    tune: bool = True,
    seed: int = 0,
) -> Figures:
    """`model`, `encoder` None: those that `make real-models` fetched. `tune`: a LoRA of so many steps, measured too."""
    from parakit.assistants.retrieval.config import IndexConfig
    from parakit.assistants.retrieval.indexing import index_documents, store_threshold
    from parakit.assistants.retrieval.questions import made_questions
    from parakit.assistants.retrieval.search import DocumentIndex
    from parakit.stages.documents.measuring import measure_threshold
    from tests.real_models import find_model

    source, vectors = model or find_model("smollm2"), encoder or find_model("minilm")
    if source is None or vectors is None:
        raise SystemExit("document_answers: no models; `make real-models` fetches them")
    with work_folder(work) as folder:
        places = _places(seed)
        docs = folder / "documents"
        docs.mkdir(exist_ok=True)
        for place in places:
            (docs / f"{place.name}.md").write_text(place.text(), encoding="utf-8")
        base = folder / "model"
        if not base.exists():
            run_parakit("import", source, "--output", base)
        index_documents(
            IndexConfig(paths=(str(docs),), encoder=str(vectors), n_passages=N_PASSAGES),
            folder / "index",
            device="cpu",
        )
        index = DocumentIndex(folder / "index", device="cpu")
        fitted = measure_threshold(index, made_questions(index.passages(), 200, held_out=False))
        store_threshold(folder / "index", fitted.to_json())
        asked_of = {"published": base}
        if tune:
            asked_of["tuned"] = _tuned(folder, base, max_steps)
        figures: Figures = {"documents": len(places), "threshold": fitted.to_json()}
        for name, path in asked_of.items():
            figures[name] = kept_or_measured(
                folder / f"{name}.json" if work else None,
                lambda path=path: _measured(path, index, places, questions, seed),  # type: ignore[misc]
            )
    return figures


def _places(seed: int) -> list[Place]:
    draw = random.Random(seed)
    names = [start + end for start in _STARTS for end in _ENDS]
    return [
        Place(
            name,
            {
                "founded": str(draw.randrange(1100, 1900)),
                "bridges": str(draw.randrange(3, 99)),
                "architect": f"{draw.choice(_FIRST)} {draw.choice(_LAST)}",
                "river": draw.choice(_RIVERS),
            },
        )
        for name in draw.sample(names, N_DOCUMENTS)
    ]


def _questions(index, places: list[Place], n: int, seed: int):  # type: ignore[no-untyped-def]
    """So many with an answer, about held-out passages, and as many without."""
    from parakit.assistants.retrieval.questions import IndexQuestion, is_held_out

    draw = random.Random(seed + 1)
    held_out = {one.title: one for one in index.passages() if is_held_out(one)}
    stated = [
        IndexQuestion(
            f"{place.name} {kind}",
            wording.format(name=place.name),
            {held_out[place.name].source: 1.0},
            (place.facts[kind],),
            held_out[place.name],
        )
        for place in places
        if place.name in held_out
        for kind, wording in _ASKED.items()
    ]
    unknown = [f"{start}{end}wick" for start in _STARTS for end in _ENDS]
    wordings = list(_ASKED.values())
    without = [wordings[i % 4].format(name=draw.choice(unknown)) for i in range(n // 2)]
    without += [_UNSTATED[i % 4].format(name=draw.choice(places).name) for i in range(n - n // 2)]
    chosen = draw.sample(stated, min(n, len(stated)))
    return [*chosen, *(IndexQuestion(f"without {i}", text) for i, text in enumerate(without))]


def _tuned(folder: Path, base: Path, max_steps: int) -> Path:
    tuned, rows = folder / "tuned", folder / "cited"
    if not rows.exists():
        run_parakit("index", "data", folder / "index", "--output", rows, *ROWS.split())
    if not tuned.exists():
        run_parakit(
            *("finetune", base, "--conversations", rows, "--output", tuned, "--max-steps", str(max_steps)),
            *TUNING.split(),
            timeout=7200,
        )
    return tuned


def _measured(model: Path, index, places: list[Place], n: int, seed: int) -> Figures:  # type: ignore[no-untyped-def]
    import parakit
    from parakit.stages.documents.measuring import measure_answers

    assistant = parakit.document_assistant(
        model, index, device="cpu", n_passages=N_PASSAGES, max_new_tokens=48
    )
    found = measure_answers(assistant, _questions(index, places, n, seed))
    shares = ("closed_book", "open_book", "with_the_passage", "refused_answerable", "refused_unanswerable")
    figures: Figures = {name: round(found[name]["value"], 4) for name in shares}
    figures["intervals"] = {name: [round(found[name][end], 4) for end in ("low", "high")] for name in shares}
    figures["gain_of_documents"] = round(figures["open_book"] - figures["closed_book"], 4)
    n_cited = found["n_citations"]
    figures["citations_in_their_passage"] = found["citations_in_their_passage"] / n_cited if n_cited else 1.0
    names = ("n_citations", "n_unsupported", "n_wrong_marks", "lost_in_retrieval", "lost_in_reading")
    return figures | {name: found[name] for name in names}
