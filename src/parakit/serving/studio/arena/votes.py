"""Pairs of answers, and votes on them: each vote is a row of one file that `parakit align --preferences` reads as it is.

A decided vote is a row with `prompt`, `chosen` and `rejected`; a tie has `completions` with equal `ranks`, which alignment
counts and skips. What a row says besides is in its key `arena`, which alignment does not read. A rater's vote on a pair counts
once, whatever the number of tabs and processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from parakit.common.errors import UserError
from parakit.common.files import JsonObject, disk_errors, read_json, write_json_atomic
from parakit.common.locks import hold_lock
from parakit.data.conversations.conversation import Conversation, Message
from parakit.data.preferences.formats import parse_ranking
from parakit.data.row_report import UninformativeExample

VoteOutcome = Literal["a", "b", "tie", "both_bad"]
OUTCOMES: tuple[VoteOutcome, ...] = ("a", "b", "tie", "both_bad")
QUALITIES = ("helpful", "harmless", "honest")
MAX_RATER = 60
_ID = re.compile(r"[0-9a-f]{16}")
_LOCK = threading.Lock()  # of this process: a lock file that a thread holds is refused to another at once


class AlreadyVoted(UserError):
    """This rater's vote on this pair is counted."""

    def __init__(self, rater: str) -> None:
        super().__init__(
            f"{rater} has voted on this pair already, perhaps in another tab: the first vote counts, this one does not",
            "go to the next pair",
        )


@dataclass(frozen=True)
class BlindPair:
    """Two models' answers to one prompt. `id` is random."""

    prompt: tuple[Message, ...]
    models: tuple[str, str]
    answers: tuple[str, str]
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    def shown_order(self, rater: str) -> tuple[int, int]:
        """Which answer a rater sees as A and which as B: by chance, and the same in every tab."""
        first = hashlib.sha256(f"{self.id} {rater}".encode()).digest()[0] & 1
        return first, 1 - first


@dataclass(frozen=True)
class ArenaVote:
    """`outcome` is about the answers as they were shown; `grades`: 1 to 5 for the qualities of A and B that were graded."""

    pair_id: str
    rater: str
    outcome: VoteOutcome
    order: tuple[int, int]
    models: tuple[str, str]
    """As the pair has them, not as they were shown."""
    grades: dict[str, dict[str, int]] = field(default_factory=dict)
    """By the pair's models, then by quality."""
    created: float = 0.0

    @property
    def score(self) -> float:
        """Of the pair's first model: 1 where it won, 0 where the other did, 0.5 else."""
        if self.outcome not in ("a", "b"):
            return 0.5
        return float(self.order["ab".index(self.outcome)] == 0)


class VoteStore:
    """`studio/votes`: `preferences.jsonl`, and a file for each pair."""

    def __init__(self, studio_dir: Path) -> None:
        self.folder = studio_dir / "votes"
        self.file = self.folder / "preferences.jsonl"
        self.pairs = self.folder / "pairs"

    # --- pairs
    def add_pair(self, pair: BlindPair) -> None:
        """Keep a pair, so that other tabs and other raters can vote on it."""
        self.pairs.mkdir(parents=True, exist_ok=True)
        row = {
            "prompt": Conversation(pair.prompt).to_row()["messages"],
            "models": pair.models,
            "answers": pair.answers,
        }
        write_json_atomic(self._pair_file(pair.id), row)

    def pair(self, pair_id: str) -> BlindPair:
        """`UserError` for one that is gone or damaged."""
        file = self._pair_file(pair_id)
        if not file.is_file():
            raise UserError("this pair is gone", "compare the models on a new prompt")
        row = read_json(file)
        try:
            prompt = tuple(Message(one["role"], one["content"]) for one in row["prompt"])
            (a, b), (x, y) = row["models"], row["answers"]
            return BlindPair(prompt, (str(a), str(b)), (str(x), str(y)), pair_id)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{file}: is not a pair of answers", "remove the file") from None

    def waiting_pair(self, rater: str) -> BlindPair | None:
        """A pair that others voted on and `rater` did not: agreement needs several votes on one pair."""
        votes = self.votes()
        mine = {vote.pair_id for vote in votes if vote.rater == rater}
        for vote in votes:
            if vote.pair_id not in mine:
                with contextlib.suppress(UserError):
                    return self.pair(vote.pair_id)
        return None

    def _pair_file(self, pair_id: str) -> Path:
        if not _ID.fullmatch(pair_id):
            raise UserError("this is no pair's id", "compare the models on a new prompt")
        return self.pairs / f"{pair_id}.json"

    # --- votes
    def votes(self) -> list[ArenaVote]:
        """All that were counted, in their order; rows of other origin are left out."""
        return list(self._read())

    def vote(
        self,
        pair: BlindPair,
        rater: str,
        outcome: VoteOutcome,
        grades: dict[str, dict[str, int]] | None = None,
    ) -> str:
        """Count a vote. Returns why alignment will skip the row, or nothing where it learns from it.

        Raises `AlreadyVoted` for a second vote of the same rater on the same pair, and `UserError` for a name that is
        empty or too long.
        """
        rater = check_rater(rater)
        vote = ArenaVote(
            pair.id, rater, outcome, pair.shown_order(rater), pair.models, grades or {}, round(time.time(), 3)
        )
        row = preference_row(pair, vote)
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self.file.with_name(f".{self.file.name}.lock")
        with _LOCK, disk_errors(self.file), hold_lock(lock, "process {} counts a vote just now"):
            if any(one.pair_id == pair.id and one.rater == rater for one in self._read()):
                raise AlreadyVoted(rater)
            _append(self.file, json.dumps(row, ensure_ascii=False) + "\n")
        try:
            parse_ranking(row, "this vote")
        except UninformativeExample as reason:
            return str(reason)
        return ""

    def _read(self) -> Iterator[ArenaVote]:
        if not self.file.is_file():
            return
        with self.file.open(encoding="utf-8") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    yield _vote_of(json.loads(line)["arena"])


def check_rater(rater: str) -> str:
    """The name of a rater without spaces around it. `UserError` for an empty one, or one that is too long."""
    rater = " ".join(rater.split())
    if not rater or len(rater) > MAX_RATER:
        raise UserError(
            f"the rater's name has {len(rater)} characters", f"give a name of 1 to {MAX_RATER} characters"
        )
    return rater


def preference_row(pair: BlindPair, vote: ArenaVote) -> JsonObject:
    """The row of a vote, in a format of `data.preferences`."""
    row: JsonObject = {"prompt": Conversation(pair.prompt).to_row()["messages"]}
    if vote.outcome in ("a", "b"):
        winner = 0 if vote.score == 1 else 1
        row |= {"chosen": pair.answers[winner], "rejected": pair.answers[1 - winner]}
    else:
        row |= {"completions": list(pair.answers), "ranks": [1, 1]}
    return row | {"arena": asdict(vote)}


def _append(file: Path, line: str) -> None:
    """Add a line as a whole: after a crash in the middle of one, the next begins on a line of its own."""
    with file.open("ab+") as out:
        if out.tell() and not _ends_line(out):
            out.write(b"\n")
        out.write(line.encode())
        out.flush()
        os.fsync(out.fileno())


def _ends_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _vote_of(row: Any) -> ArenaVote:
    outcome, (first, second), (a, b) = row["outcome"], row["order"], row["models"]
    if outcome not in OUTCOMES or {first, second} != {0, 1}:
        raise ValueError(row)
    return ArenaVote(
        str(row["pair_id"]),
        str(row["rater"]),
        outcome,
        (first, second),
        (str(a), str(b)),
        dict(row["grades"]),
        row["created"],
    )


def graded_models(pair: BlindPair, rater: str, shown: Sequence[dict[str, int]]) -> dict[str, dict[str, int]]:
    """The grades of A and B by the models behind them; qualities without a grade are left out."""
    order = pair.shown_order(check_rater(rater))
    return {pair.models[i]: dict(grades) for i, grades in zip(order, shown, strict=True) if grades}
