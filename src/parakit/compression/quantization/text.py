"""The text of a quantization: what a method calibrates on, and other text that the result is measured on.

Calibration: the user's files; else the train split of the token shards that the model was made from, found through its
lineage; else text that the model generates itself, from random first tokens (Liu et al. 2023, "LLM-QAT"). Measured on: the
user's files; else the validation split of those shards; else the last tenth of the calibration files, which then does not
calibrate; else the package's general texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parakit.checkpoints.folder_safety import read_small_json
from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.compression.quantization.config import Calibration, QuantizeConfig
from parakit.compression.quantization.tuning import windows_needed
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.evaluation.general_text import general_texts
from parakit.evaluation.perplexity import encode_documents
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import generate_ids
from parakit.model.heads import LanguageModel
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer

HELD_OUT = 0.1
MAX_GENERATED_LEN = 256
MAX_ANCESTORS = 100  # folders of a lineage that are looked at
_HINT = "give more text with --calibration FILE"


@dataclass(frozen=True)
class Windows:
    """`token_ids` (N, T) of text from `source`, a few words for the report."""

    token_ids: Tensor
    source: str

    @property
    def n_tokens(self) -> int:
        """N * T."""
        return self.token_ids.numel()


def find_windows(
    model: LanguageModel, tokenizer: Tokenizer | None, folder: Path, config: QuantizeConfig
) -> tuple[Windows | None, Windows]:
    """What to calibrate on (None for a config that reads no text), and what to measure on. `UserError` where files hold less
    text than one window.
    """
    shards = training_shards(folder, tokenizer)
    files = config.calibration if isinstance(config, Calibration) else ()
    ids = _read_files(files, tokenizer) if files else None
    calibration = None
    if isinstance(config, Calibration):
        calibration = _calibration_windows(model, config, ids, shards)
    return calibration, _measured_windows(model, tokenizer, config, ids, shards)


def training_shards(folder: Path, tokenizer: Tokenizer | None) -> list[Path]:
    """The token shards that a model was trained on, the last ones first, as far as they are still where its lineage found
    them and have its tokens.
    """
    found: list[Path] = []
    seen: set[Path] = set()
    waiting = [folder]
    while waiting and len(seen) < MAX_ANCESTORS:
        path = waiting.pop(0)
        if path in seen or not (path / LINEAGE).is_file():
            continue
        seen.add(path)
        record = read_small_json(path / LINEAGE)
        if record.get("kind") == "shards" and tokenizer is not None:
            shards = TokenShards.open(path, "train", verify=False)
            found += [path] if shards.tokenizer_digest == tokenizer.digest else []
        for parent in record.get(
            "parents", ()
        ):  # where it was, or next to its child in a build that has moved
            waiting += [Path(parent["path"]), path.parent / Path(parent["path"]).name]
    return found


def _calibration_windows(
    model: LanguageModel, config: Calibration, ids: np.ndarray | None, shards: list[Path]
) -> Windows:
    seq_len = min(config.calibration_seq_len, model.config.max_seq_len)
    n = max(1, config.n_calibration_tokens // seq_len, windows_needed(config.tune_steps))
    if ids is not None:
        used = ids[: int(len(ids) * (1 - HELD_OUT))]
        return Windows(
            _cut(used, n, seq_len, config.seed), f"calibration files ({', '.join(config.calibration)})"
        )
    for path in shards:
        found = TokenShards.open(path, "train", verify=False)
        if found.n_tokens >= seq_len:
            return Windows(_cut(found.token_ids, n, seq_len, config.seed), f"{path}, train")
    return _generated(model, config, min(seq_len, MAX_GENERATED_LEN))


def _measured_windows(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    config: QuantizeConfig,
    ids: np.ndarray | None,
    shards: list[Path],
) -> Windows:
    seq_len = min(config.measured_seq_len, model.config.max_seq_len)
    n = max(1, config.n_measured_tokens // seq_len)
    if config.text:
        return Windows(_cut(_read_files(config.text, tokenizer), n, seq_len), ", ".join(config.text))
    for path in shards:
        found = TokenShards.open(path, "validation", verify=False)
        if found.n_tokens >= seq_len:
            return Windows(_cut(found.token_ids, n, seq_len), f"{path}, validation")
    if ids is not None and len(rest := ids[int(len(ids) * (1 - HELD_OUT)) :]) >= seq_len:
        return Windows(_cut(rest, n, seq_len), "the last tenth of the calibration files")
    general = _encode(general_texts().values(), tokenizer)
    return Windows(_cut(general, n, min(seq_len, len(general))), "general texts that come with Parakit")


def _cut(ids: np.ndarray, n: int, seq_len: int, seed: int | None = None) -> Tensor:
    """At most `n` windows (N, T) of the text, spread evenly, or chosen by `seed`."""
    n_windows = len(ids) // seq_len
    if n_windows == 0:
        raise UserError(f"the text has {len(ids)} tokens, and a window {seq_len}", _HINT)
    if seed is None:
        chosen = np.linspace(0, n_windows - 1, min(n, n_windows)).round().astype(int)
    else:
        chosen = rng(seed, "calibration").permutation(n_windows)[:n]
    rows = np.stack([np.asarray(ids[i * seq_len : (i + 1) * seq_len], np.int64) for i in chosen])
    return torch.from_numpy(rows)


def _read_files(paths: Sequence[str], tokenizer: Tokenizer | None) -> np.ndarray:
    config = TextConfig(paths=tuple(paths), deduplicate=False, newlines="keep", strip_gutenberg=False)
    return _encode((document.text for document in read_documents(config, ReadReport())), tokenizer)


def _encode(texts: Iterable[str], tokenizer: Tokenizer | None) -> np.ndarray:
    if tokenizer is None:
        raise UserError(
            "the model folder has no tokenizer, so it cannot read text", "put its tokenizer there"
        )
    documents = (Document(text, f"text {n}", len(text.encode())) for n, text in enumerate(texts))
    return encode_documents(tokenizer, documents).token_ids


def _generated(model: LanguageModel, config: Calibration, seq_len: int) -> Windows:
    """Sampled from the model's own distribution; rows are of one length, since nothing ends a completion."""
    n = max(1, config.n_calibration_tokens // seq_len)
    first = rng(config.seed, "first tokens").integers(model.config.vocab_size, size=n)
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=seq_len - 1, seed=config.seed)
    completions = generate_ids(model, [[int(one)] for one in first], sampling)
    rows = [[int(one), *ids] for one, ids in zip(first, completions, strict=True)]
    return Windows(torch.tensor(rows), "text that the model generated")
