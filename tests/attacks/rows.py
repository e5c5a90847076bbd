"""Rows with keys that nothing expects, for every reader of rows: each key is read, refused with the row's number, or counted.

Whether a key is read is decided without the reader's own record: a key that is not counted must change what is read when
it is taken away, and one that is counted must not. `python -m tests.attacks.rows --n 100000 --seed 1` runs as many rows.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Container, Iterator
from copy import deepcopy
from typing import Any

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import parse_conversation
from parakit.data.examples.formats import TASK_FORMATS, check_row
from parakit.data.preferences.formats import parse_ranking
from parakit.data.readers.rows import read_rows
from parakit.data.readers.tracked_row import TrackedRow
from parakit.data.row_report import RowReport

WHERE = "rows.jsonl, row 7"
_USER = {"role": "user", "content": "Where does Anna live?"}
_YES = {"role": "assistant", "content": "In Norwick."}
_CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"function": {"name": "find", "arguments": {}}}],
}
_TOLD = {"role": "tool", "content": "Norwick", "name": "find"}
_PAIR = {"chosen": "In Norwick.", "rejected": "Who knows?"}
_SAMPLES: dict[str, dict[str, Any]] = {
    "classify": {"text": "Not bad.", "label": "good"},
    "multi_label": {"text": "Sun, then snow.", "labels": ["sun"]},
    "tag": {"words": ["Anna", "sings"], "tags": ["name", "other"]},
    "regress": {"text": "Not bad.", "score": 0.7},
    "translate": {"source": "Hello.", "target": "Bonjour."},
    "embed": {"text": "Where?", "positive": "In Norwick."},
    "answer": {"question": "Where?", "context": "Anna lives in Norwick.", "answers": ["Norwick"]},
}
ROWS: dict[str, list[dict[str, Any]]] = {
    "conversation": [
        {"messages": [_USER, _YES]},
        {"messages": [_USER, _CALL, _TOLD, _YES], "tools": [{"name": "find"}]},
        {"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "There."}]},
        {"prompt": "Where?", "completion": "There."},
        {"instruction": "Where?", "output": "There."},
        {"prompt": [_USER]},
    ],
    "preference": [
        {"prompt": "Where?", **_PAIR},
        {"instruction": "Where?", **_PAIR},
        {"chosen": [_USER, _YES], "rejected": [_USER, {"role": "assistant", "content": "Who knows?"}]},
        {"prompt": [_USER], "completions": ["There.", "Who knows?"], "rewards": [1, 0]},
        {"prompt": "Where?", "ranking": ["There.", "Who knows?"]},
    ],
    **{task: [row] for task, row in _SAMPLES.items()},
}
_KEYS = (
    "system system_prompt tools functions images image audio messages conversations conversation prompt question"
    " instruction input context history documents output response completion answer chosen rejected ranking completions"
    " ranks rewards margin tests text text_pair label labels words tags score source target positive answers answer_start"
    " id name from value role content weight tool_calls function_call tool_call_id reasoning_content thinking refusal type"
    " chat_template_kwargs train timestamp url Sytem wieght toolcalls"
)
_PATHS = {
    "messages": "messages[]",
    "conversations": "messages[]",
    "chosen": "messages[]",
    "prompt": "messages[]",
}


def parser_of(kind: str) -> Callable[[TrackedRow], object]:
    """What reads a row of this kind."""
    if kind == "conversation":
        return parse_conversation
    if kind == "preference":
        return lambda row: parse_ranking(row, row.where)
    return lambda row: check_row(TASK_FORMATS[kind], row, row.where)


def outcome(kind: str, row: dict[str, Any]) -> tuple[object, RowReport] | str:
    """What is read of a row (None where it is skipped) and the report, or the message that refuses it."""
    report = RowReport()
    try:
        read = [item for _, item in read_rows([(WHERE, deepcopy(row))], parser_of(kind), report, "hint")]
    except UserError as error:
        return str(error)
    return (read[0] if read else None), report


def places(row: dict[str, Any], ignored: Container[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """The row, and the objects of its messages, each with the prefix of its keys in the report."""
    yield "", row
    for key, prefix in _PATHS.items():
        if key in ignored:
            continue
        for message in row.get(key) or [] if isinstance(row.get(key), list) else []:
            if isinstance(message, dict):
                yield f"{prefix}.", message


def fault_of(kind: str, row: dict[str, Any]) -> str | None:
    """What is wrong with how a row is read; None where nothing is."""
    read = outcome(kind, row)
    if isinstance(read, str):
        return None if WHERE in read else f"refused without its number: {read}"
    item, report = read
    if item is None:
        return None if report.total == 1 else "a row vanished"
    for number, (prefix, place) in enumerate(places(row, report.ignored)):
        for key in place:
            rest = deepcopy(row)
            place = list(places(rest, report.ignored))[number][1]
            if place.pop(key) in (None, "", [], {}):
                continue
            without = outcome(kind, rest)
            changes = isinstance(without, str) or without[0] != item
            if changes == (f"{prefix}{key}" in report.ignored):
                return f"{prefix}{key} {'is counted, and read' if changes else 'vanished'}"
    return None


def random_row(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """A valid row of some kind with one to three keys more, in itself or in its messages."""
    kind = rng.choice(list(ROWS))
    row = deepcopy(rng.choice(ROWS[kind]))
    for i in range(rng.randint(1, 3)):
        place = rng.choice(list(places(row)))[1]
        key = rng.choice(_KEYS.split()) if rng.random() < 0.8 else f"key{rng.randint(0, 99)}\u00e9"
        text = f"{key} {i} {rng.choice(['short', 'a longer text than that of the others', chr(0x2028), '<think>'])}"
        value = rng.choice(
            [text, 100 + i, 0.25 + i, True, [text], {"name": text}, [{"name": text}], None, "", [], 0]
        )
        place.setdefault(key, value)
    return kind, row


def main() -> None:
    """Run `--n` rows and print how many of each outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    counts: Counter[str] = Counter()
    for _ in range(options.n):
        kind, row = random_row(rng)
        if fault := fault_of(kind, row):
            raise SystemExit(f"{kind}: {fault}: {row}")
        read = outcome(kind, row)
        counts["refused with its number" if isinstance(read, str) else "read or counted"] += 1
    print(f"{options.n:,} rows, 0 keys vanished: {dict(counts)}")


if __name__ == "__main__":
    main()
