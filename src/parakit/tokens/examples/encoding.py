"""Encode examples as token ids, in bounded memory, into example shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, save_array, write_array, write_json_atomic
from parakit.common.progress import Bar
from parakit.common.settings import Family
from parakit.data.examples import EXAMPLE_SPLITS, ExampleRow, iter_examples, load_examples_report
from parakit.data.examples.formats import get_task_format
from parakit.tokens.examples.shards import INDEX, NEGATIVES
from parakit.tokens.tokenizer.special_tokens_template import special_tokens_template
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_ROWS_PER_CHUNK = 10_000
_Encoded = tuple[list[np.ndarray], list[np.ndarray], int]  # ids, tags for each token, words without a token


def encode_examples(
    examples: str | Path,
    tokenizer: Tokenizer,
    path: str | Path,
    *,
    family: Family,
    prepare: Callable[[str], str] | None = None,
    overwrite: bool = False,
    progress: Bar | None = None,
) -> Path:
    """Encode the folder that `prepare_examples` wrote into the artifact folder `path` (kind "example_shards"), for
    models of `family`. Splits without rows are left out. `prepare` makes the text that is encoded of each text: what an
    embedder does with it first. `progress` counts examples.
    """
    report = load_examples_report(examples)
    task, labels = get_task_format(report["task"]), report["labels"]
    if task.name == "translate" and tokenizer.eos_id is None:
        raise UserError(
            "this tokenizer has no EOS, so a translation could not end", "use one that parakit trained"
        )
    dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    config = {"tokenizer": tokenizer.digest, "dtype": dtype, "family": family}
    lineage = Lineage("example_shards", config, [examples])
    with writing_artifact(path, lineage, overwrite) as folder:
        splits = {}
        for split in EXAMPLE_SPLITS:
            if n := report["splits"][split]["examples"]:
                label_ids = {label: i for i, label in enumerate(labels)}
                writer = _SplitWriter(folder, split, tokenizer, dtype, label_ids, prepare)
                splits[split] = {"examples": n} | writer.write(iter_examples(examples, split), progress)
        index = {
            "task": task.name,
            "family": family,
            "splits": splits,
            "targets": task.answer in ("label", "labels", "tags", "score", "answers"),
            "labels": labels,
            "templates": [special_tokens_template(tokenizer, family, n).to_dict() for n in (1, 2)],
            "dtype": dtype,
            "vocab_size": tokenizer.vocab_size,
            "pad_id": tokenizer.pad_id,
            "eos_id": tokenizer.eos_id,
            "tokenizer_digest": tokenizer.digest,
        }
        write_json_atomic(folder / INDEX, index)
        lineage.result.update(splits)
    return Path(path)


class _SplitWriter:
    """Writes the files of one split, a chunk of rows at a time."""

    def __init__(
        self,
        folder: Path,
        split: str,
        tokenizer: Tokenizer,
        dtype: str,
        label_ids: dict[str, int],
        prepare: Callable[[str], str] | None,
    ) -> None:
        self.folder, self.split, self.tokenizer, self.dtype = folder, split, tokenizer, dtype
        self.label_ids, self.prepare = label_ids, prepare or str
        self.lengths: dict[str, list[np.ndarray]] = {}
        self.targets: list[np.ndarray] = []
        self.n_negatives: list[int] = []
        self.n_untagged = 0

    def write(self, rows: Iterable[ExampleRow], progress: Bar | None) -> JsonObject:
        n_before = 0
        for chunk in _chunks(rows):
            keys = [key for key in dict.fromkeys(k for row in chunk for k in row) if key not in _ANSWERS]
            for key in dict.fromkeys([*(key for key in self.lengths if key != NEGATIVES), *keys]):
                self._add(key, self._ids(key, chunk), n_before)
            self._add_targets(chunk)
            self._add_negatives(chunk)
            n_before += len(chunk)
            if progress is not None:
                progress.advance(len(chunk))
        n_tokens = {}
        for key, lengths in self.lengths.items():
            offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))
            save_array(self.folder / f"{self.split}.{key}.offsets.npy", offsets)
            n_tokens[key] = int(offsets[-1])
        if self.targets:
            save_array(self.folder / f"{self.split}.targets.npy", np.concatenate(self.targets))
        if NEGATIVES in self.lengths:
            begins = np.cumsum([0, *self.n_negatives], dtype=np.int64)
            save_array(self.folder / f"{self.split}.{NEGATIVES}.begins.npy", begins)
        return {"tokens": n_tokens} | ({"untagged_words": self.n_untagged} if "words" in n_tokens else {})

    def _ids(self, key: str, chunk: Sequence[ExampleRow]) -> list[np.ndarray]:
        if key == "context":
            return self._contexts(chunk)
        if key != "words":
            return self.tokenizer.encode_bulk([self.prepare(row.get(key, "")) for row in chunk])
        ids = []
        for row in chunk:
            token_ids, words = word_numbers(self.tokenizer, row["words"])
            tags = np.array([self.label_ids[tag] for tag in row["tags"]], np.int64)
            self.n_untagged += len(tags) - int((words >= 0).sum())
            self.targets.append(np.where(words >= 0, tags[words], -1))
            ids.append(np.array(token_ids, np.uint32))
        return ids

    def _contexts(self, chunk: Sequence[ExampleRow]) -> list[np.ndarray]:
        """The ids of contexts; the targets are the first and the last token of each answer, -1 without one."""
        ids = []
        for row in chunk:
            token_ids, spans = self.tokenizer.reference_encoder.spans(row["context"])
            start = row.get("answer_start", -1)
            end = start + len(row["answers"][0]) if start >= 0 else -1
            inside = [i for i, (begin, stop) in enumerate(spans) if begin < end and stop > start]
            self.targets.append(np.array([[inside[0], inside[-1]] if inside else [-1, -1]], np.int64))
            ids.append(np.array(token_ids, np.uint32))
        return ids

    def _add(self, key: str, ids: list[np.ndarray], n_before: int) -> None:
        lengths = self.lengths.setdefault(
            key, [np.zeros(n_before, np.int64)]
        )  # a key that is missing in earlier rows
        lengths.append(np.array([len(one) for one in ids], np.int64))
        with open(self.folder / f"{self.split}.{key}.bin", "ab") as file:
            write_array(file, np.concatenate(ids).astype(self.dtype))

    def _add_negatives(self, chunk: Sequence[ExampleRow]) -> None:
        lists = [row.get(NEGATIVES, []) for row in chunk]
        self.n_negatives += map(len, lists)
        if texts := [self.prepare(text) for texts in lists for text in texts]:
            self._add(NEGATIVES, self.tokenizer.encode_bulk(texts), 0)

    def _add_targets(self, chunk: Sequence[ExampleRow]) -> None:
        if "label" in chunk[0]:
            self.targets.append(np.array([self.label_ids[row["label"]] for row in chunk], np.int64))
        elif "labels" in chunk[0]:
            rows = np.zeros((len(chunk), len(self.label_ids)), np.uint8)
            for number, row in enumerate(chunk):
                rows[number, [self.label_ids[label] for label in row["labels"]]] = 1
            self.targets.append(rows)
        elif "score" in chunk[0]:
            self.targets.append(np.array([row["score"] for row in chunk], np.float32))


def word_numbers(tokenizer: Tokenizer, words: Sequence[str]) -> tuple[list[int], np.ndarray]:
    """Ids of words joined by spaces, and for each token the index of the word whose first token it is, or -1. A word
    that the tokenizer drops has no token.
    """
    token_ids, spans = tokenizer.reference_encoder.spans(" ".join(words))
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    begins = ends - [len(word) for word in words]
    begin, end = np.array(spans, np.int64).reshape(-1, 2).T
    word = np.searchsorted(ends, begin, "right")  # the first word that ends after the token's beginning
    inside = (word < len(words)) & (end > begin)
    inside[inside] &= end[inside] > begins[word[inside]]
    word = np.where(inside, word, -1)
    earlier = np.maximum.accumulate(np.concatenate([[-1], word]))[:-1]
    return token_ids, np.where(word > earlier, word, -1)


def _chunks(rows: Iterable[ExampleRow]) -> Iterator[list[ExampleRow]]:
    chunk: list[ExampleRow] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _ROWS_PER_CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


_ANSWERS = ("label", "labels", "score", "tags", "answers", "answer_start", NEGATIVES)
