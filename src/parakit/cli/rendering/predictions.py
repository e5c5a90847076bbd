"""What any model that does not chat says of texts: labels, tags, scores, translations, vectors, hidden words.

Rows in, plain data out; the head of the model decides which. Torch is imported inside the functions.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parakit.common.errors import UserError
from parakit.evaluation.config import EvaluationConfig
from parakit.inference.config import BeamConfig

if TYPE_CHECKING:
    from parakit.model.heads import Model
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

Row = Mapping[str, Any]
_TEXT_KEYS = ("text", "source", "words")


def predict(
    model: Model,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    beams: BeamConfig,
    *,
    n_candidates: int = 5,
    as_vectors: bool = False,
) -> list[dict[str, Any]]:
    """One answer a row. A row has `text` (and `text_pair`), `source` or `words`, as the examples of its task do.
    A model that only goes on with a text is a `UserError`, but for `as_vectors`, which most models can give.
    """
    from parakit.inference.capabilities import model_kind

    kind = model_kind(model)
    assert kind is not None
    what, abilities = kind.description, kind.capabilities
    if as_vectors:
        return _embed(model, tokenizer, rows)
    if "generate" in abilities:
        raise UserError(f"this model is {what}", "let it write with `parakit generate` or `parakit chat`")
    if abilities[0] == "reward":
        raise UserError(f"this model is {what}", "it judges completions while others are trained")
    if not rows:
        return []
    if abilities[0] == "translate":
        return _translate(model, tokenizer, rows, beams)
    if abilities[0] == "fill_mask":
        return _fill_masks(model, tokenizer, rows, n_candidates)
    return _READERS[abilities[0]](model, tokenizer, rows)


def measure_file(
    path: str, examples: str, config: EvaluationConfig, device: str, advance: Callable[[int], object]
) -> dict[str, Any]:
    """The figures of the model folder `path` on every row of a file of examples of its own task."""
    from parakit.checkpoints.model_folder import load_model
    from parakit.cli.rendering.model_loading import model_folder
    from parakit.common.devices import pick_device
    from parakit.data.examples import TASK_FORMATS, read_examples
    from parakit.evaluation.examples import evaluate_examples
    from parakit.inference.capabilities import model_kind

    model, tokenizer = load_model(model_folder(path), pick_device(device))
    found = model_kind(model)
    tasks = [ability for ability in found.capabilities if ability in TASK_FORMATS] if found else []
    if not tasks or tokenizer is None:
        raise UserError(
            f"{path}: is {found.description if found else 'a model'} and has no task with examples",
            "tune it for one: parakit finetune --task classify",
        )
    rows = (row for _, row in read_examples(examples, tasks[0]))
    beams = BeamConfig(n_beams=config.n_beams, max_new_tokens=config.max_new_tokens)
    result = evaluate_examples(
        model,
        tokenizer,
        tasks[0],
        rows,
        decoding=beams,
        micro_batch_size=config.micro_batch_size,
        advance=advance,
    )
    return dataclasses.asdict(result) | {"split": examples}


def asked(row: Row) -> dict[str, Any]:
    """What of a row the model was given."""
    return {key: row[key] for key in (*_TEXT_KEYS, "text_pair") if key in row}


def read_rows(texts: Sequence[str], path: str | None) -> list[Row]:
    """Rows from the command line, from a file (JSON lines, or a text a line), or from standard input."""
    if texts:
        return [{"text": text} for text in texts]
    if path in (None, "-"):
        lines, is_json, name = sys.stdin.read().splitlines(), False, "standard input"
    else:
        assert path is not None
        lines, is_json, name = _lines(Path(path)), path.endswith(".jsonl"), path
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            rows.append(_json_row(line, f"{name}, row {number}") if is_json else {"text": line})
    if not rows:
        raise UserError(f"{name}: holds no text", "give --text TEXT, or --input FILE")
    return rows


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path}: no such file", "name a file of rows (.jsonl), or of texts, one a line")
    return path.read_bytes().decode("utf-8", "replace").splitlines()


def _json_row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})", "give one JSON object a line") from None
    if not isinstance(row, dict) or not any(key in row for key in _TEXT_KEYS):
        raise UserError(f"{where}: no object with `text`, `source` or `words`", 'a row is {"text": "..."}')
    return row


def _text(row: Row) -> str:
    """The text of a row, under whatever key it stands."""
    value = next(row[key] for key in _TEXT_KEYS if key in row)
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _texts(rows: Sequence[Row]) -> list[str | tuple[str, str]]:
    return [(_text(row), str(row["text_pair"])) if row.get("text_pair") else _text(row) for row in rows]


def _classify(model: Any, tokenizer: Tokenizer, rows: Sequence[Row]) -> list[dict[str, Any]]:
    from parakit.inference.prediction.classification import classify

    return [
        {"label": one.label, "probability": one.probability, "probabilities": one.probabilities}
        for one in classify(model, tokenizer, _texts(rows))
    ]


def _tag(model: Any, tokenizer: Tokenizer, rows: Sequence[Row]) -> list[dict[str, Any]]:
    from parakit.inference.prediction.classification import tag

    words = [[str(word) for word in row["words"]] if "words" in row else _text(row).split() for row in rows]
    tagged = tag(model, tokenizer, words)
    return [
        {
            "words": sentence,
            "tags": ["" if word is None else word.label for word in found],
            "probabilities": [0.0 if word is None else word.probability for word in found],
        }
        for sentence, found in zip(words, tagged, strict=True)
    ]


def _regress(model: Any, tokenizer: Tokenizer, rows: Sequence[Row]) -> list[dict[str, Any]]:
    from parakit.inference.prediction.classification import regress

    return [{"score": score} for score in regress(model, tokenizer, _texts(rows))]


def _embed(model: Any, tokenizer: Tokenizer, rows: Sequence[Row]) -> list[dict[str, Any]]:
    from parakit.inference.prediction.embeddings import embed

    return [{"vector": vector.tolist()} for vector in embed(model, tokenizer, _texts(rows))]


def _translate(
    model: Any, tokenizer: Tokenizer, rows: Sequence[Row], beams: BeamConfig
) -> list[dict[str, Any]]:
    from parakit.inference.generation.seq_to_seq import translate

    return [{"target": text} for text in translate(model, tokenizer, [_text(row) for row in rows], beams)]


def _fill_masks(
    model: Any, tokenizer: Tokenizer, rows: Sequence[Row], n_candidates: int
) -> list[dict[str, Any]]:
    from parakit.inference.prediction.fill_mask import fill_masks

    found = fill_masks(model, tokenizer, [_text(row) for row in rows], n_candidates=n_candidates)
    return [
        {
            "masks": [
                [{"token": one.text, "probability": one.probability} for one in place.candidates]
                for place in row
            ]
        }
        for row in found
    ]


_READERS: dict[str, Callable[[Any, Any, Sequence[Row]], list[dict[str, Any]]]] = {
    "classify": _classify,
    "tag": _tag,
    "regress": _regress,
    "embed": _embed,
}
