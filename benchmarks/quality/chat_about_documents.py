"""A chat model about a folder of documents, from one command: recipes/chat-about-documents.yaml on the published model of
135M parameters, without any other model.

The documents are the leads of Wikipedia articles and the handbook of a company that does not exist. Both models answer the
same questions greedily; an answer is right where it has the expected words. Held-out wordings: questions that were not
trained on, about facts that were trained in other wordings. Own wordings: questions about the handbook that this benchmark
words itself. Facts never questioned: all wordings of the fact were held out by chance, so that only passages shown with
other questions had it. Other documents: a control, no document that was trained on has the answer. Refusals: the question
comes with a passage that lacks the answer, and the right answer is to say so; its counterpart has the passage that has it.
General ability: ARC-Easy by log-likelihood, and the loss on public instructions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, ROOT, kept_or_measured, run_parakit, work_folder
from benchmarks.quality.document_chat.documents import Question, write_articles, write_handbook
from benchmarks.quality.document_chat.grading import compared, is_right
from benchmarks.quality.multiple_choice import answered_right
from benchmarks.quality.multiple_choice import questions as drawn_questions
from benchmarks.quality.real_models.data import Rows, find_source, instructions, read_lines
from benchmarks.registry import NO_TARGET, Figures, benchmark

RECIPE = ROOT / "recipes" / "chat-about-documents.yaml"
SETTINGS = (  # nearly half of the wordings is held out, and the run is short
    "conversations.from_documents.validation_fraction=0.45",
    "finetune.epochs=3",
    "finetune.validate_every=1000",
    "finetune.before_after=none",
)
MAX_ANSWER_WORDS = 8  # of an expected answer: a definition cannot be graded by its words
MAX_NEW_TOKENS = 24
N_INSTRUCTIONS = 40
MAX_QUESTIONS = {"held_out_wordings": 200, "other_documents": 40}  # others are few
N_WITH_PASSAGE = 24
Questions = list[Question]
_SAYS = ("say", "mention", "provide", "state", "specify", "contain")
_REFUSALS = (
    *(f"{not_} {verb}" for not_ in ("does not", "doesn't") for verb in _SAYS),
    *(f"not {verb}" for verb in ("mentioned", "provided", "specified", "stated", "given in")),
    "no information",
    "cannot be determined",
)


@benchmark("chat_about_documents", {
    "held_out_wordings.gain_low": ("> 0", "held-out wordings: gain over the published model, lower end of the 95 % interval"),
    "held_out_wordings.start.share": (NO_TARGET, "held-out wordings: right answers of the published model"),
    "held_out_wordings.tuned.share": (NO_TARGET, "held-out wordings: right answers of the tuned model"),
    "held_out_wordings.start.n": (NO_TARGET, "held-out wordings: questions"),
    "held_out_wordings_handbook.*.share": (NO_TARGET, "held-out wordings, invented company: right answers, {0}"),
    "own_wordings.gain_low": ("> 0", "own wordings, invented company: gain, lower end of the 95 % interval"),
    "own_wordings.start.share": (NO_TARGET, "own wordings: right answers of the published model"),
    "own_wordings.tuned.share": (NO_TARGET, "own wordings: right answers of the tuned model"),
    "never_questioned.tuned.share": (NO_TARGET, "facts never questioned: right answers of the tuned model"),
    "other_documents.start.share": (NO_TARGET, "other documents: right answers of the published model"),
    "other_documents.tuned.share": (NO_TARGET, "other documents: right answers of the tuned model"),
    "refusals.start.share": (NO_TARGET, "passage without the answer: refused by the published model"),
    "refusals.tuned.share": (NO_TARGET, "passage without the answer: refused by the tuned model"),
    "passages.start.share": (NO_TARGET, "passage with the answer: right answers of the published model"),
    "passages.tuned.share": (NO_TARGET, "passage with the answer: right answers of the tuned model"),
    "arc_easy.gain": (">= -0.05", "ARC-Easy: change of the share right"),
    "instructions.change": (NO_TARGET, "public instructions: change of the loss, nats a token"),
})  # fmt: skip
def chat_about_documents(
    *,
    data: Path = DATA,
    articles: int = 35,
    departments: int = 6,
    questions: int = 80,
    settings: tuple[str, ...] = SETTINGS,
    work: Path | None = None,
) -> Figures:
    """`settings` of the recipe, KEY=VALUE, change it; `work` keeps what was measured, so that an interrupted run resumes."""
    with work_folder(work) as folder:
        documents = folder / "documents"
        documents.mkdir(exist_ok=True)
        write_articles(data, documents, articles)
        handbook = write_handbook(documents, departments)
        build = kept_or_measured(folder / "build.json", partial(_build, folder, documents, settings))
        made = folder / "builds" / "chat-about-documents"
        groups = _groups(made, handbook)
        arc, rows = drawn_questions(data, "arc_easy", questions), instructions(data)[:N_INSTRUCTIONS]
        start, tuned = (
            _measured(made / stage, folder / "rows" / stage, groups, arc, rows)
            for stage in ("start", "finetune")
        )
        figures: Figures = {name: compared(start[name]["right"], tuned[name]["right"]) for name in groups}
        figures["arc_easy"] = compared(start["arc_easy"]["right"], tuned["arc_easy"]["right"])
        figures["instructions"] = {
            "start": start["instructions"]["loss"],
            "tuned": tuned["instructions"]["loss"],
            "change": tuned["instructions"]["loss"] - start["instructions"]["loss"],
        }
        return figures | {"build": build, "samples": _samples(groups, start, tuned)}


def _build(folder: Path, documents: Path, settings: tuple[str, ...]) -> Figures:
    """One command, from the documents to the tuned model."""
    words = [f"start={find_source('smollm2')}", f"text.paths=[{documents}]", *settings]
    flags = [word for setting in words for word in ("--set", setting)]
    done = run_parakit("build", RECIPE, *flags, "--builds", folder / "builds", "--json", timeout=14_000)
    made = folder / "builds" / "chat-about-documents"
    report = json.loads((made / "conversations" / "report.json").read_text(encoding="utf-8"))
    return {
        "seconds": done.seconds,
        "processor_seconds": done.processor_seconds,
        "peak_memory_mib": done.peak_memory_mib,
        "questions": report,
        "settings": list(settings),
    }


def _groups(made: Path, handbook: Questions) -> dict[str, Questions]:
    """The questions of each kind; see the module's docstring."""
    rows = [row for row in read_lines(made / "conversations" / "questions.jsonl") if row["rejected"] is None]
    short = [row for row in rows if len(row["answer"].split()) <= MAX_ANSWER_WORDS]
    trained = {_fact(row) for row in rows if row["split"] == "train"}
    files = {Path(row["file"]).name for row in rows if row["document_split"] == "train"}
    groups: dict[str, Questions] = {
        "held_out_wordings": [],
        "held_out_wordings_handbook": [],
        "never_questioned": [],
        "other_documents": [],
        "own_wordings": [question for question in handbook if question.document in files],
    }
    for row in short:
        question = Question(row["question"], row["answer"], Path(row["file"]).name)
        if row["split"] == "test":
            groups["other_documents"].append(question)
        elif row["split"] == "validation":
            is_invented = question.document in {one.document for one in handbook}
            name = (
                "held_out_wordings" + "_handbook" * is_invented
                if _fact(row) in trained
                else "never_questioned"
            )
            groups[name].append(question)
    return {name: _spread(drawn, name) for name, drawn in groups.items() if drawn} | _with_passages(short)


def _spread(drawn: Questions, name: str) -> Questions:
    """At most so many questions, evenly over all."""
    n = min(len(drawn), MAX_QUESTIONS.get(name, len(drawn)))
    return [drawn[i * len(drawn) // n] for i in range(n)]


def _with_passages(rows: Rows, n: int = N_WITH_PASSAGE) -> dict[str, Questions]:
    """Held-out questions with a passage that has the answer, and with one that lacks it; the answer is then a refusal."""
    from parakit.data.conversations.from_documents import Pair, Passage, lacks_answer
    from parakit.stages.corpora.questions import question_with_passage

    held_out = [row for row in rows if row["split"] in ("validation", "test")]
    drawn = held_out[:: max(1, len(held_out) // n)][:n]
    passages = [
        Passage(row["text"], row["source"], row["file"], row["document_id"], row["title"]) for row in held_out
    ]
    groups: dict[str, Questions] = {"passages": [], "refusals": []}
    for i, row in enumerate(drawn):
        own = next(
            one for one in passages if one.document_id == row["document_id"] and one.text == row["text"]
        )
        pair = Pair(row["question"], row["answer"])
        around = (passages[(i * 7 + k) % len(passages)] for k in range(len(passages)))
        other = next(one for one in around if lacks_answer(pair, one, own))
        groups["passages"].append(Question(question_with_passage(pair.question, own), pair.answer, own.file))
        groups["refusals"].append(Question(question_with_passage(pair.question, other), "", own.file))
    return groups


def _fact(row: dict[str, Any]) -> tuple[str, str]:
    return row["statement"], row["answer"]


def _measured(
    folder: Path, kept: Path, groups: dict[str, Questions], arc: Any, rows: Rows
) -> dict[str, Figures]:
    """Each answer and whether it is right, and the general figures, one file each in `kept`."""
    from parakit.inference.chat_models.local import LocalChatModel
    from parakit.inference.scoring import log_likelihoods

    model = LocalChatModel.load(folder)

    def loss() -> Figures:
        pairs = [(row["messages"][:-1], row["messages"][-1]["content"]) for row in rows]
        n_tokens = sum(len(model.tokenizer.encode(answer)) for _, answer in pairs)
        total = sum(log_likelihoods(model.model, model.tokenizer, pairs))
        return {"loss": -total / n_tokens}

    measures: dict[str, Callable[[], Figures]] = {
        name: partial(_answered, model, drawn) for name, drawn in groups.items()
    }
    measures["arc_easy"] = lambda: {"right": answered_right(model.model, model.tokenizer, arc)}
    measures["instructions"] = loss
    return {name: kept_or_measured(kept / f"{name}.json", measure) for name, measure in measures.items()}


def _answered(model: Any, drawn: Questions) -> Figures:
    from parakit.data.conversations.conversation import Message

    prompts = [(Message("user", one.question),) for one in drawn]
    answers = [answer or "" for answer in model.generate(prompts, max_new_tokens=MAX_NEW_TOKENS)]
    right = [
        is_right(answer, one.answer) if one.answer else _refuses(answer)
        for answer, one in zip(answers, drawn, strict=True)
    ]
    return {"answers": answers, "right": right}


def _refuses(answer: str) -> bool:
    """The trained refusal, or any usual way to say that the passage lacks the answer."""
    text = answer.casefold()
    return any(words in text for words in _REFUSALS)


def _samples(
    groups: dict[str, Questions], start: dict[str, Figures], tuned: dict[str, Figures], n: int = 5
) -> list[Figures]:
    """A few answers of both models."""
    return [
        {
            "kind": name,
            "question": drawn[i].question[-300:],
            "expected": drawn[i].answer,
            "start": start[name]["answers"][i],
            "tuned": tuned[name]["answers"][i],
        }
        for name, drawn in groups.items()
        for i in range(0, len(drawn), max(1, -(-len(drawn) // n)))
    ]
