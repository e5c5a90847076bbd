"""Conversations out of documents: a model or rules write questions with answers about passages of a corpus, and those that
pass the checks become a set of conversations.

Questions about training documents are in train and, a part of them, in validation: what the model has read, and has not
been questioned about. Those about held-out documents are in test only. Some come with their passage, as a person would
paste it; some with the passage of another document that lacks the answer, and the model is to say so. `questions.jsonl`
has every pair that was written, with its document, its passage, its split and, where it was left out, why.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from parakit.alignment.jsonl_cache import cached_map
from parakit.common.artifacts import LINEAGE, Lineage, open_artifact, writing_artifact
from parakit.common.choices import part_of
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, is_file, write_json_atomic
from parakit.common.progress import log, progress
from parakit.common.settings import config_digest
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.conversations.from_documents import (
    DocumentQuestionsConfig,
    Pair,
    PairChecker,
    Passage,
    WrittenByModel,
    WrittenByRules,
    lacks_answer,
    pairs_by_rules,
    parse_pairs,
    passages_of,
)
from parakit.data.corpus import iter_corpus
from parakit.data.splits import SPLITS, writing_splits
from parakit.inference.chat_models.chat_model import ChatModel
from parakit.inference.chat_models.loading import open_chat_model

CHUNK = 16  # passages whose text is on disk before the next ones are begun
QUESTIONS = "questions.jsonl"
N_TRIED = 50  # passages that are looked at for one that lacks an answer
NO_PAIRS = "no pair in the form"
Written = tuple[
    Passage, list[Pair], int
]  # with its pairs, and how many stretches of the model's text are none


def make_document_questions(
    config: DocumentQuestionsConfig,
    corpus: Path,
    out: Path,
    *,
    model: ChatModel | None = None,
    overwrite: bool = False,
    seed: int = 0,
) -> Path:
    """Write the set of conversations `out` (kind "conversations", with `test.jsonl` for held-out documents) from the corpus.

    With the writer `model`, `model` writes the pairs; None: the one that `config` names. What it wrote for a passage is kept
    next to `out` until the set is finished, so that an interrupted run continues. `UserError` where no pair passes the checks.
    """
    corpus = open_artifact(corpus, "corpus", verify=False).path
    written_by = part_of(config, WrittenByModel)
    parents: list[str | Path] = [corpus]
    settings = config.model_dump(mode="json")
    if written_by is not None:
        model = model or _open(written_by)
        settings |= {"template": written_by.template_text()}
        if written_by.model and is_file(Path(written_by.model) / LINEAGE):
            parents.append(written_by.model)
    lineage = Lineage("conversations", {"from_documents": settings}, parents, seed)
    cache = out.with_name(f".{out.name}.{config_digest(settings | {'seed': seed})[:12]}.jsonl")
    with writing_artifact(out, lineage, overwrite) as folder:
        written = {}
        for split in SPLITS:
            passages = passages_of(iter_corpus(corpus, split), config)
            if written_by is not None:
                assert model is not None
                written[split] = _by_model(written_by, passages, split, model, cache, seed)
            else:
                rules = part_of(config, WrittenByRules)
                assert rules is not None
                written[split] = [(one, pairs_by_rules(one, rules), 0) for one in passages]
        report = _write(folder, config, written, seed)
        write_json_atomic(folder / "report.json", report)
        lineage.result = report
    cache.unlink(missing_ok=True)
    return out


def _open(config: WrittenByModel) -> ChatModel:
    if config.model is None:
        raise UserError(
            "no model was named that writes the questions",
            "set model to a folder or a URL, or writer to rules, which need none",
        )
    return open_chat_model(config.model, model=config.model_name)


def _by_model(
    config: WrittenByModel, passages: Sequence[Passage], split: str, model: ChatModel, cache: Path, seed: int
) -> list[Written]:
    """The passages of a split, each with what the model wrote about it."""

    def compute(chunk: Sequence[Passage]) -> list[JsonObject]:
        requests = [(Message("user", config.request(one.text, one.source)),) for one in chunk]
        seeds = [_draw(seed, one.id, "writing") for one in chunk]
        texts = model.generate(
            requests, max_new_tokens=config.max_new_tokens, temperature=config.temperature, seeds=seeds
        )
        bar.advance(len(chunk))
        return [{"text": text} for text in texts]

    with progress(f"questions, {split}", len(passages), "passages") as bar:
        rows = cached_map(cache, passages, lambda passage: passage.id, compute, CHUNK)
    parsed = (parse_pairs(row["text"] or "") for row in rows)
    return [
        (passage, pairs, n_wrong or (not pairs))
        for passage, (pairs, n_wrong) in zip(passages, parsed, strict=True)
    ]


def _write(
    folder: Path, config: DocumentQuestionsConfig, written: dict[str, list[Written]], seed: int
) -> JsonObject:
    checker, reasons, n_pairs, n_kept = PairChecker(config), Counter[str](), 0, 0
    counts, refusals = Counter[str](), Counter[str]()
    with (
        writing_splits(folder) as outputs,
        open(folder / QUESTIONS, "w", encoding="utf-8", newline="\n") as every,
    ):
        for name in reversed(SPLITS):  # a question about a held-out document is never in train too
            judged = [
                (pair, passage, reason)
                for passage, pairs, n_wrong in written[name]
                for pair, reason in _judged(pairs, n_wrong, passage, checker)
            ]
            kept = [(pair, passage) for pair, passage, reason in judged if pair and not reason]
            n_pairs += sum(pair is not None for pair, _, _ in judged)
            reasons.update(reason for _, _, reason in judged if reason)
            n_kept += len(kept)
            others = [passage for passage, _, _ in written[name]]
            fraction = _fraction(kept, config.validation_fraction, seed)
            for pair, passage, reason in judged:
                split = _split_of(pair, name, fraction, seed) if pair and not reason else None
                row = asdict(passage) | {"document_split": name, **(asdict(pair) if pair else {})}
                row |= {"split": split, "rejected": reason}
                every.write(json.dumps(row, ensure_ascii=False) + "\n")
            for pair, passage in kept:
                split = _split_of(pair, name, fraction, seed)
                for conversation, refuses in _conversations(pair, passage, others, config, seed):
                    outputs[split].write(conversation.to_line())
                    counts[split] += 1
                    refusals[split] += refuses
    if not counts["train"]:
        most = ", ".join(f"{reason}: {n}" for reason, n in reasons.most_common(3))
        raise UserError(
            f"none of {n_pairs} pairs about training documents is kept; {most or 'the model wrote none'}",
            "take a larger model, change the template, lower min_support, or set the writer to rules",
        )
    log(f"questions: {n_kept:,} of {n_pairs:,} pairs pass the checks")
    return {
        "splits": {split: counts[split] for split in ("train", "validation")},
        "test_of_held_out_documents": counts["test"],
        "refusals": dict(refusals),
        "passages": {name: len(rows) for name, rows in written.items()},
        "pairs": n_pairs,
        "kept": n_kept,
        "rejected": dict(reasons.most_common()),
        "validation_fraction": config.validation_fraction,
        "duplicates": 0,
        "skipped_rows": {},
    }


def _judged(
    pairs: Sequence[Pair], n_wrong: int, passage: Passage, checker: PairChecker
) -> Iterator[tuple[Pair | None, str | None]]:
    """Every pair with the reason against it; text that is no pair has none."""
    for pair in pairs:
        yield pair, checker.reason_against(pair, passage)
    for _ in range(n_wrong):
        yield None, NO_PAIRS


def _conversations(
    pair: Pair, passage: Passage, others: Sequence[Passage], config: DocumentQuestionsConfig, seed: int
) -> Iterator[tuple[Conversation, bool]]:
    """The question with its answer, and for some a refusal: the same question with a passage that lacks the answer."""
    shown = _part(seed, pair.question, "passage") < config.passage_share
    yield _conversation(pair.question, pair.answer, passage if shown else None), False
    odds = config.refusal_share / (1 - config.refusal_share)  # refusals for each answered question
    if _part(seed, pair.question, "refusal") < odds and others:
        first = _draw(seed, pair.question, "other") % len(others)
        around = (others[(first + i) % len(others)] for i in range(min(N_TRIED, len(others))))
        other = next((one for one in around if lacks_answer(pair, one, passage)), None)
        if other is not None:
            yield _conversation(pair.question, config.refusal, other), True


def _conversation(question: str, answer: str, passage: Passage | None) -> Conversation:
    if passage is not None:
        question = question_with_passage(question, passage)
    return Conversation((Message("user", question), Message("assistant", answer)))


def question_with_passage(question: str, passage: Passage) -> str:
    """The question as a person would paste its passage with it."""
    return f"Answer from the passage.\n\nPassage:\n{passage.text}\n\nQuestion: {question}"


def _fraction(kept: Sequence[tuple[Pair, Passage]], fraction: float, seed: int) -> float:
    """The part that is held out: doubled, up to a half, where few questions leave validation empty."""
    while 0 < fraction < 0.5 and not any(_part(seed, one.question, "split") < fraction for one, _ in kept):
        fraction = min(0.5, 2 * fraction)
    return fraction


def _split_of(pair: Pair, document_split: str, fraction: float, seed: int) -> str:
    if document_split != "train":
        return "test"
    held_out = _part(seed, pair.question, "split") < fraction
    return "validation" if held_out else "train"


def _part(seed: int, text: str, purpose: str) -> float:
    """A number in [0, 1) that is a function of the text."""
    return _draw(seed, text, purpose) / 2**63


def _draw(seed: int, text: str, purpose: str) -> int:
    digest = hashlib.sha256(f"{seed}\n{purpose}\n{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
