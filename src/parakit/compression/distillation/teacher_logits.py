"""What a teacher thinks of every counted token of a split, asked once and kept in a folder.

Of each place the K likeliest ids are kept and their log-probabilities, and that of all others together: 4 K + 2 bytes
in half precision, where the whole distribution of 32,000 tokens takes 64,000. A student that learns from it sees the
teacher's K likeliest exactly and the others as one event. What is lost is how these differ among themselves: the
forward divergence falls short of the full one by the mass of the rest times the divergence within it, and with K the
whole vocabulary nothing is lost but the rounding. The mass of the rest depends on the temperature, so it is part of
what a folder is of.

One epoch's rows are kept, as the source cuts and masks them; later epochs meet the same rows in another order.

Shapes: B rows, T tokens, N counted places, K ids kept, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parakit.common.artifacts import Lineage, open_artifact, writing_artifact
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import read_json, write_json_atomic
from parakit.common.seeds import rng
from parakit.compression.distillation.losses import top_k_log_probs
from parakit.compression.distillation.micro_batches import CachedBatch, fields_of
from parakit.compression.distillation.teacher import Teacher
from parakit.tokens.batches.batch import Batch, MaskedBatch
from parakit.training.micro_batches import to_micro_batch
from parakit.training.objectives.distribution_losses import log_probs_at_temperature
from parakit.training.row_sources import RowSource

KIND, INDEX = "teacher_logits", "index.json"
PASS_TOKENS = 8192  # in one forward pass of the teacher
CHUNK_ELEMENTS = 2**22  # logits at a time
_HINT = "restore it from a copy, or delete the folder and let it be written again"


@dataclass(frozen=True)
class TeacherLogitsSpec:
    """What decides the teacher's answers: two folders with the same facts hold the same."""

    teacher: str  # digest
    data: str  # digest
    rows: str  # how rows are cut and masked
    seed: int
    seq_len: int
    top_k: int
    distill_temperature: float
    log_dtype: str = "float16"


class TeacherLogits:
    """An opened folder: of each row the ids and log-probabilities at its counted places, in order."""

    def __init__(self, path: Path, facts: TeacherLogitsSpec | None = None) -> None:
        """Raises `UserError` where the folder was written for other `facts`; None takes it as it is."""
        artifact = open_artifact(path, KIND)
        self.path, self.digest = path, artifact.digest
        kept = artifact.lineage["config"]
        for name, wanted in asdict(facts).items() if facts else ():
            if kept.get(name) != wanted:
                raise UserError(
                    f"{path}: holds a teacher's answers for {name} = {kept.get(name)}, and {name} = {wanted} is wanted",
                    "name another folder, which will be written, or train with the settings it was made for",
                )
        index = read_json(path / INDEX)
        self.offsets: np.ndarray = np.load(path / "offsets.npy", allow_pickle=False)
        n_places, top_k = int(self.offsets[-1]), index["top_k"]
        self.top_k, self.n_rows = top_k, len(self.offsets) - 1
        self.has_rest = top_k < index["vocab_size"]
        self._ids = _map(path / "ids.bin", index["id_dtype"], (n_places, top_k))
        self._logs = _map(path / "logs.bin", kept["log_dtype"], (n_places, top_k + self.has_rest))

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids (n, K) int64 and log-probabilities (n, K + 1) float32, or (n, K) where all are kept; they sum to one."""
        places = slice(self.offsets[number], self.offsets[number + 1])
        logs = self._logs[places].astype(np.float32)
        return self._ids[places].astype(np.int64), logs - _log_sum(logs)


def _log_sum(logs: np.ndarray) -> np.ndarray:
    """What rounding left of one, as a logarithm."""
    return np.log(np.exp(logs.astype(np.float64)).sum(-1, keepdims=True)).astype(np.float32)


def _map(path: Path, dtype: str, shape: tuple[int, int]) -> np.ndarray:
    wanted = math.prod(shape) * np.dtype(dtype).itemsize
    size = path.stat().st_size if path.is_file() else -1
    if size != wanted:
        raise CorruptArtifact(f"{path}: has {size} bytes where {wanted} belong", _HINT)
    return np.memmap(path, dtype=dtype, mode="r", shape=shape) if wanted else np.empty(shape, dtype)


def write_teacher_logits(
    path: Path,
    teacher: Teacher,
    source: RowSource,
    facts: TeacherLogitsSpec,
    parents: Sequence[str | Path] = (),
    advance: Callable[[int], object] = lambda n_rows: None,
) -> Path:
    """Ask the teacher about every row of one epoch of `source` and keep its answers in the folder `path`. `advance` is
    called with the number of rows done.
    """
    n_rows, vocab_size = math.ceil(source.rows_per_epoch), teacher.model.config.vocab_size
    lineage = Lineage(KIND, asdict(facts), list(parents), facts.seed)
    id_dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
    at_once, counts = max(1, PASS_TOKENS // facts.seq_len), [0]
    with writing_artifact(path, lineage) as folder:
        with open(folder / "ids.bin", "wb") as ids_file, open(folder / "logs.bin", "wb") as logs_file:
            for start in range(0, n_rows, at_once):
                batch = source.rows(start, min(at_once, n_rows - start))
                for ids, logs in _answers(teacher, batch, facts):
                    ids.astype(id_dtype).tofile(ids_file)
                    logs.astype(facts.log_dtype).tofile(logs_file)
                counts += batch.loss_mask.sum(1).tolist()
                advance(len(batch.input_ids))
        np.save(folder / "offsets.npy", np.cumsum(counts))
        index = {"top_k": facts.top_k, "vocab_size": vocab_size, "id_dtype": id_dtype}
        write_json_atomic(folder / INDEX, index)
        lineage.result = {"rows": n_rows, "places": int(sum(counts))}
    return path


@torch.no_grad()
def _answers(teacher: Teacher, batch: Batch, facts: TeacherLogitsSpec) -> Any:
    """Ids and log-probabilities at the counted places, some places at a time."""
    micro = to_micro_batch(batch, teacher.model.lm_head.weight.device)
    hidden = teacher.hidden(micro)
    hidden = hidden.flatten(0, 1) if micro.loss_mask is None else hidden[micro.loss_mask]  # (N, D)
    n_places = max(1, CHUNK_ELEMENTS // teacher.model.config.vocab_size)
    for start in range(0, len(hidden), n_places):
        logs = log_probs_at_temperature(
            teacher.logits(hidden[start : start + n_places]), facts.distill_temperature
        )
        top_ids = logs.topk(facts.top_k, dim=1).indices
        yield top_ids.cpu().numpy(), top_k_log_probs(logs, top_ids).cpu().numpy()


class CachedLogitsSource:
    """Rows of `source` with the teacher's answers; the first epoch's are the source's own, in its order."""

    def __init__(self, source: Any, logits: TeacherLogits) -> None:
        self.source, self.logits = source, logits
        self.seed, self.seq_len = source.seed, source.seq_len
        self.rows_per_epoch = float(logits.n_rows)
        assert math.ceil(source.rows_per_epoch) == logits.n_rows
        self._order = lru_cache(maxsize=3)(self._order_of)

    def rows(self, start_row: int, n_rows: int) -> CachedBatch:
        """Rows `start_row` to `start_row + n_rows - 1`; the same for the same seed, whoever asks and whenever."""
        per_epoch = self.logits.n_rows
        places = [divmod(row, per_epoch) for row in range(start_row, start_row + n_rows)]
        numbers = [int(self._order(epoch)[place]) for epoch, place in places]
        batches = [self.source.rows(number, 1) for number in numbers]
        shape = (n_rows, self.seq_len)
        top_ids = np.zeros((*shape, self.logits.top_k), np.int64)
        top_logs = np.zeros((*shape, self.logits.top_k + self.logits.has_rest), np.float32)
        for row, (number, batch) in enumerate(zip(numbers, batches, strict=True)):
            counted = batch.loss_mask[0]
            top_ids[row, counted], top_logs[row, counted] = self.logits.row(number)
        return CachedBatch(
            **_together(batches),
            top_ids=top_ids,
            top_logs=top_logs,
            hides_tokens=isinstance(batches[0], MaskedBatch),
        )

    def epoch_of(self, row: int) -> float:
        """How many epochs have been seen before `row`."""
        return row / self.rows_per_epoch

    def _order_of(self, epoch: int) -> np.ndarray:
        n_rows = self.logits.n_rows
        return rng(self.seed, "cached rows", epoch).permutation(n_rows) if epoch else np.arange(n_rows)


def _together(batches: Sequence[Batch]) -> dict[str, Any]:
    """The fields of one batch out of several."""
    named = [fields_of(batch) for batch in batches]
    joined = {
        name: np.concatenate([one[name] for one in named])
        for name, value in named[0].items()
        if isinstance(value, np.ndarray)
    }
    return joined | {
        "n_counted": sum(batch.n_counted for batch in batches),
        "single_document": all(batch.single_document for batch in batches),
    }
