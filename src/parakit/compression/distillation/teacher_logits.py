"""The teacher's distributions at every counted position of a split, computed once and stored in a folder.

Each position has the K most likely ids with their log-probabilities, and the log-probability of all others together:
4 K + 2 bytes in half precision, where a whole distribution over 32,000 tokens takes 64,000. The student sees the K ids
exactly and the rest as one event. The forward divergence is too small by the rest's mass times the divergence within the
rest; with K the whole vocabulary only rounding is lost. The rest's mass depends on the temperature, which is part of the
spec.

One epoch's rows are stored, as the source cuts and masks them; later epochs have the same rows in another order.

Shapes: B rows, T tokens, N counted positions, K stored ids, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parakit.common.artifacts import Lineage, open_artifact, writing_artifact
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import read_json, save_array, write_array, write_json_atomic
from parakit.common.progress import OnProgress
from parakit.common.seeds import rng
from parakit.compression.distillation.losses import top_k_log_probs
from parakit.compression.distillation.micro_batches import CachedBatch, fields_of
from parakit.compression.distillation.teacher import Teacher
from parakit.model.quantized import weight_like
from parakit.tokens.batches.batch import Batch, MaskedBatch
from parakit.training.micro_batches import to_micro_batch
from parakit.training.objectives.distribution_losses import log_probs_at_temperature
from parakit.training.row_sources import RowSource

KIND, INDEX = "teacher_logits", "index.json"
PASS_TOKENS = 8192  # of one forward pass
CHUNK_ELEMENTS = 2**22  # logits at a time
_HINT = "restore it from a copy, or delete the folder: it is written again"


@dataclass(frozen=True)
class TeacherLogitsSpec:
    """What determines a folder's content."""

    teacher: str  # digest
    data: str  # digest
    rows: str  # how rows are cut and masked
    seed: int
    seq_len: int
    top_k: int
    distill_temperature: float
    log_dtype: str = "float16"


class TeacherLogits:
    """An opened folder: ids and log-probabilities of each row's counted positions, in order."""

    def __init__(self, path: Path, spec: TeacherLogitsSpec | None = None) -> None:
        """`UserError` where the folder has another `spec`; None accepts any."""
        artifact = open_artifact(path, KIND)
        self.path, self.digest = path, artifact.digest
        stored = artifact.lineage["config"]
        for name, wanted in asdict(spec).items() if spec else ():
            if stored.get(name) != wanted:
                raise UserError(
                    f"{path}: teacher logits for {name} = {stored.get(name)}, not for {name} = {wanted}",
                    "name a new folder, or train with the settings of this one",
                )
        index = read_json(path / INDEX)
        self.offsets: np.ndarray = np.load(path / "offsets.npy", allow_pickle=False)
        n_places, top_k = int(self.offsets[-1]), index["top_k"]
        self.top_k, self.n_rows = top_k, len(self.offsets) - 1
        self.has_rest = top_k < index["vocab_size"]
        self._ids = _map(path / "ids.bin", index["id_dtype"], (n_places, top_k))
        self._logs = _map(path / "logs.bin", stored["log_dtype"], (n_places, top_k + self.has_rest))

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids (n, K) int64 and log-probabilities (n, K + 1) float32, or (n, K) if K is the vocabulary; they sum to one."""
        places = slice(self.offsets[number], self.offsets[number + 1])
        logs = self._logs[places].astype(np.float32)
        return self._ids[places].astype(np.int64), logs - _log_sum(logs)


def _log_sum(logs: np.ndarray) -> np.ndarray:
    """The logarithm of the sum of probabilities, which rounding moves from 0."""
    return np.log(np.exp(logs.astype(np.float64)).sum(-1, keepdims=True)).astype(np.float32)


def _map(path: Path, dtype: str, shape: tuple[int, int]) -> np.ndarray:
    wanted = math.prod(shape) * np.dtype(dtype).itemsize
    size = path.stat().st_size if path.is_file() else -1
    if size != wanted:
        raise CorruptArtifact(f"{path}: has {size} bytes, not {wanted}", _HINT)
    return np.memmap(path, dtype=dtype, mode="r", shape=shape) if wanted else np.empty(shape, dtype)


def write_teacher_logits(
    path: Path,
    teacher: Teacher,
    source: RowSource,
    spec: TeacherLogitsSpec,
    parents: Sequence[str | Path] = (),
    advance: OnProgress = lambda n_rows: None,
) -> Path:
    """Store the teacher's distributions for every row of one epoch of `source` in the folder `path`. `advance` is called
    with the number of rows done.
    """
    n_rows, vocab_size = math.ceil(source.rows_per_epoch), teacher.model.config.vocab_size
    lineage = Lineage(KIND, asdict(spec), list(parents), spec.seed)
    id_dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
    rows_per_forward, counts = max(1, PASS_TOKENS // spec.seq_len), [0]
    with writing_artifact(path, lineage) as folder:
        with open(folder / "ids.bin", "wb") as ids_file, open(folder / "logs.bin", "wb") as logs_file:
            for start in range(0, n_rows, rows_per_forward):
                batch = source.rows(start, min(rows_per_forward, n_rows - start))
                for ids, logs in _top_k(teacher, batch, spec):
                    write_array(ids_file, ids.astype(id_dtype))
                    write_array(logs_file, logs.astype(spec.log_dtype))
                counts += batch.loss_mask.sum(1).tolist()
                advance(len(batch.input_ids))
        save_array(folder / "offsets.npy", np.cumsum(counts))
        index = {"top_k": spec.top_k, "vocab_size": vocab_size, "id_dtype": id_dtype}
        write_json_atomic(folder / INDEX, index)
        lineage.result = {"rows": n_rows, "places": int(sum(counts))}
    return path


@torch.no_grad()
def _top_k(teacher: Teacher, batch: Batch, spec: TeacherLogitsSpec) -> Any:
    """Ids and log-probabilities of the counted positions, in chunks."""
    micro = to_micro_batch(batch, weight_like(teacher.model.lm_head).device)
    hidden = teacher.hidden(micro)
    hidden = hidden.flatten(0, 1) if micro.loss_mask is None else hidden[micro.loss_mask]  # (N, D)
    n_places = max(1, CHUNK_ELEMENTS // teacher.model.config.vocab_size)
    for start in range(0, len(hidden), n_places):
        logs = log_probs_at_temperature(
            teacher.logits(hidden[start : start + n_places]), spec.distill_temperature
        )
        top_ids = logs.topk(spec.top_k, dim=1).indices
        yield top_ids.cpu().numpy(), top_k_log_probs(logs, top_ids).cpu().numpy()


class CachedLogitsSource:
    """Rows of `source` with the teacher's distributions; the first epoch has the source's order."""

    def __init__(self, source: Any, logits: TeacherLogits) -> None:
        self.source, self.logits = source, logits
        self.seed, self.seq_len = source.seed, source.seq_len
        self.rows_per_epoch = float(logits.n_rows)
        assert math.ceil(source.rows_per_epoch) == logits.n_rows
        self._order = lru_cache(maxsize=3)(self._order_of)

    def rows(self, start_row: int, n_rows: int) -> CachedBatch:
        """Rows `start_row` to `start_row + n_rows - 1`; a pure function of the seed."""
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
            **_concatenate(batches),
            top_ids=top_ids,
            top_logs=top_logs,
            hides_tokens=isinstance(batches[0], MaskedBatch),
        )

    def epoch_of(self, row: int) -> float:
        """Epochs before `row`."""
        return row / self.rows_per_epoch

    def _order_of(self, epoch: int) -> np.ndarray:
        n_rows = self.logits.n_rows
        return rng(self.seed, "cached rows", epoch).permutation(n_rows) if epoch else np.arange(n_rows)


def _concatenate(batches: Sequence[Batch]) -> dict[str, Any]:
    """The fields of several batches as one."""
    named = [fields_of(batch) for batch in batches]
    fields = {
        name: np.concatenate([one[name] for one in named])
        for name, value in named[0].items()
        if isinstance(value, np.ndarray)
    }
    return fields | {
        "n_counted": sum(batch.n_counted for batch in batches),
        "single_document": all(batch.single_document for batch in batches),
    }
