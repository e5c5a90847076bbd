"""Conversations out of documents: a model writes questions with answers about passages of a corpus, and those that pass the
checks become a set of conversations.

Questions about training documents are in train and, a part of them, in validation: what the model has read, and has not
been questioned about. Those about held-out documents are in test only. Some come with their passage, as a person would
paste it; some with the passage of another document that lacks the answer, and the model is to say so. `questions.jsonl`
has every pair that was written, with its document, its passage and, where it was left out, why.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from parakit.alignment.chat_models.chat_model import ChatModel
from parakit.alignment.chat_models.loading import open_chat_model
from parakit.alignment.jsonl_cache import cached_map
from parakit.common.artifacts import LINEAGE, Lineage, open_artifact, writing_artifact
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
    lacks_answer,
    parse_pairs,
    passages_of,
)
from parakit.data.corpus import iter_corpus
from parakit.data.splits import SPLITS, writing_splits

CHUNK = 16  # passages whose text is on disk before the next ones are begun
QUESTIONS = "questions.jsonl"
N_TRIED = 50  # passages that are looked at for one that lacks an answer
NO_PAIRS = "no pair in the form"


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

    `model` writes the pairs; None: the one that `config` names. What it wrote for a passage is kept next to `out` until
    the set is finished, so that an interrupted run continues. `UserError` where no pair passes the checks.
    """
    corpus = open_artifact(corpus, "corpus", verify=False).path
    if model is None:
        if config.model is None:
            raise UserError("no model was named that writes the questions", "set model to a folder or a URL")
        model = open_chat_model(config.model, model=config.model_name)
    parents: list[str | Path] = [corpus]
    if config.model and is_file(Path(config.model) / LINEAGE):
        parents.append(config.model)
    settings = config.model_dump(mode="json") | {"template": config.template_text()}
    lineage = Lineage("conversations", {"from_documents": settings}, parents, seed)
    cache = out.with_name(f".{out.name}.{config_digest(settings | {'seed': seed})[:12]}.jsonl")
    with writing_artifact(out, lineage, overwrite) as folder:
        written = {split: _written(config, corpus, split, model, cache, seed) for split in SPLITS}
        report = _write(folder, config, written, seed)
        write_json_atomic(folder / "report.json", report)
        lineage.result = report
    cache.unlink(missing_ok=True)
    return out


def _written(
    config: DocumentQuestionsConfig, corpus: Path, split: str, model: ChatModel, cache: Path, seed: int
) -> list[tuple[Passage, str]]:
    """The passages of a split, each with what the model wrote about it."""
    passages = passages_of(iter_corpus(corpus, split), config)

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
    return [(passage, row["text"] or "") for passage, row in zip(passages, rows, strict=True)]


def _write(
    folder: Path, config: DocumentQuestionsConfig, written: dict[str, list[tuple[Passage, str]]], seed: int
) -> JsonObject:
    checker, reasons, n_pairs, n_kept = PairChecker(config), Counter[str](), 0, 0
    counts, refusals = Counter[str](), Counter[str]()
    with (
        writing_splits(folder) as outputs,
        open(folder / QUESTIONS, "w", encoding="utf-8", newline="\n") as every,
    ):
        for name in reversed(SPLITS):  # a question about a held-out document is never in train too
            kept: list[tuple[Pair, Passage]] = []
            for passage, text in written[name]:
                for pair, reason in _judged(text, passage, checker):
                    row = asdict(passage) | {"document_split": name}
                    row |= {} if pair is None else asdict(pair)
                    every.write(json.dumps(row | {"left_out": reason}, ensure_ascii=False) + "\n")
                    n_pairs += pair is not None
                    if reason:
                        reasons[reason] += 1
                    elif pair is not None:
                        kept.append((pair, passage))
            n_kept += len(kept)
            others = [passage for passage, _ in written[name]]
            fraction = _fraction(kept, config.validation_fraction, seed)
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
            "take a larger model, change the template, or lower min_support",
        )
    log(f"questions: {n_kept:,} of {n_pairs:,} pairs pass the checks")
    return {
        "splits": {split: counts[split] for split in ("train", "validation")},
        "test_of_held_out_documents": counts["test"],
        "refusals": dict(refusals),
        "passages": {name: len(rows) for name, rows in written.items()},
        "pairs": n_pairs,
        "kept": n_kept,
        "left_out": dict(reasons.most_common()),
        "validation_fraction": config.validation_fraction,
        "duplicates": 0,
        "skipped_rows": {},
    }


def _judged(text: str, passage: Passage, checker: PairChecker) -> Iterator[tuple[Pair | None, str | None]]:
    """Every pair of a text with the reason against it; text that is no pair has none."""
    pairs, n_wrong = parse_pairs(text)
    for pair in pairs:
        yield pair, checker.reason_against(pair, passage)
    for _ in range(n_wrong or (not pairs)):
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
        question = f"Answer from the passage.\n\nPassage:\n{passage.text}\n\nQuestion: {question}"
    return Conversation((Message("user", question), Message("assistant", answer)))


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
