"""`parakit predict`: read its input rows, and format predictions as data and as text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.readers.inputs import check_paths
from parakit.data.readers.rows import RECORD_SUFFIXES, enumerate_lines, file_suffix, read_records

if TYPE_CHECKING:
    from parakit.inference.loaded_model import Model

InputRow = Mapping[str, Any]
_TEXT_KEYS = ("text", "source", "words", "question")
_N_SHOWN = 6  # numbers of a vector


def predict(
    model: Model,
    rows: Sequence[InputRow],
    translation: Mapping[str, Any],
    *,
    n_candidates: int = 5,
    as_vectors: bool = False,
    prompt_name: str | None = None,
) -> list[JsonObject]:
    """One prediction per row, of the model's main capability, or vectors.

    A row has `text` (and `text_pair`), `source`, `words`, or `question` and `context`, as the examples of its task do.
    Raises `UserError` for a model that generates text or rewards, and for vectors of a model that has none.
    """
    main = "embed" if as_vectors else model.kind.capabilities[0]
    if main == "embed":
        vectors = model.embed(_texts(rows), prompt_name=prompt_name)
        return [{"vector": vector.tolist()} for vector in vectors]
    if prompt_name is not None:
        raise UserError(
            f"--prompt-name {prompt_name}: this model is {model.kind.description}",
            "prompts belong to sentence encoders; with --embed another model gives vectors too",
        )
    if main == "generate":
        raise UserError(
            f"this model is {model.kind.description}", "use `parakit generate` or `parakit chat` with it"
        )
    if main == "replaced":
        raise UserError(f"this model is {model.kind.description}", "fine-tune it, or call its `network`")
    if main == "reward":
        raise UserError(
            f"this model is {model.kind.description}", "`parakit evaluate --preferences` measures it"
        )
    if main == "translate":
        translated = model.translate([_text(row) for row in rows], **translation)
        return [{"target": text} for text in translated]
    if main == "fill_mask":
        filled = model.fill_mask([_text(row) for row in rows], n_candidates=n_candidates)
        return [{"masks": [_candidates(position) for position in positions]} for positions in filled]
    return _PREDICTORS[main](model, rows)


def inputs_of(row: InputRow) -> JsonObject:
    """The part of a row that the model reads."""
    return {key: row[key] for key in (*_TEXT_KEYS, "text_pair", "context") if key in row}


def prediction_text(row: InputRow, prediction: Mapping[str, Any]) -> str:
    """One prediction for people."""
    if "label" in prediction:
        label, probability = prediction["label"], 100 * prediction["probability"]
        return f"{label}  {probability:.1f} %  {row.get('text', '')}".rstrip()
    if "labels" in prediction:
        named = (f"{one} {100 * prediction['probabilities'][one]:.1f} %" for one in prediction["labels"])
        return f"{', '.join(named) or 'no label'}  {row.get('text', '')}".rstrip()
    if "answer" in prediction:
        return f"{prediction['answer'] or 'no answer'}  {100 * prediction['probability']:.1f} %"
    if "tags" in prediction:
        pairs = zip(prediction["words"], prediction["tags"], strict=True)
        return " ".join(f"{word}/{tag}" for word, tag in pairs)
    if "score" in prediction:
        return f"{prediction['score']:.4g}  {row.get('text', '')}".rstrip()
    if "target" in prediction:
        return str(prediction["target"])
    if "vector" in prediction:
        numbers = ", ".join(f"{value:.4f}" for value in prediction["vector"][:_N_SHOWN])
        return f"{len(prediction['vector'])} numbers: {numbers}, ... (all of them with --json)"
    lines = []
    for number, candidates in enumerate(prediction["masks"], 1):
        line = ", ".join(f"{_visible(one['token'])} {100 * one['probability']:.1f} %" for one in candidates)
        lines.append(f"mask {number}: {line}" if len(prediction["masks"]) > 1 else line)
    return "\n".join(lines)


def read_rows(texts: Sequence[str], path: str | None) -> list[InputRow]:
    """Rows from the command line, from a file (of rows, or one text per line), or from standard input."""
    if texts:
        return [{"text": text} for text in texts]
    if path is None or path == "-":
        name = "standard input"
        rows: list[InputRow] = [{"text": line} for line in sys.stdin.read().splitlines() if line.strip()]
    elif file_suffix(Path(path)) in RECORD_SUFFIXES:
        name, rows = path, [_checked(row, where) for where, row in read_records(path)]
    else:
        name = path
        check_paths([path])
        rows = [{"text": line} for _, line in enumerate_lines(Path(path).expanduser()) if line.strip()]
    if not rows:
        raise UserError(f"{name}: holds no text", "give --text TEXT, or --input FILE")
    return rows


def _checked(row: object, where: str) -> InputRow:
    if not isinstance(row, dict) or not any(key in row for key in _TEXT_KEYS):
        raise UserError(
            f"{where}: no object with `text`, `source`, `words` or `question`", 'a row is {"text": "..."}'
        )
    return row


def _text(row: InputRow) -> str:
    """The text of a row, under whichever key."""
    value = next(row[key] for key in _TEXT_KEYS if key in row)
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _texts(rows: Sequence[InputRow]) -> list[str | tuple[str, str]]:
    return [(_text(row), str(row["text_pair"])) if row.get("text_pair") else _text(row) for row in rows]


def _classify(model: Model, rows: Sequence[InputRow]) -> list[JsonObject]:
    return [
        {"label": one.label, "probability": one.probability, "probabilities": one.probabilities}
        for one in model.classify(_texts(rows))
    ]


def _multi_label(model: Model, rows: Sequence[InputRow]) -> list[JsonObject]:
    return [
        {"labels": list(one.labels), "probabilities": one.probabilities}
        for one in model.multi_label(_texts(rows))
    ]


def _answer(model: Model, rows: Sequence[InputRow]) -> list[JsonObject]:
    for number, row in enumerate(rows, 1):
        if not row.get("question") or not row.get("context"):
            raise UserError(
                f"row {number} has no question with a context",
                'give --input FILE with rows such as {"question": "...", "context": "..."}',
            )
    return [
        {"answer": one.text, "start": one.start, "end": one.end, "probability": one.probability}
        for one in model.answer([(str(row["question"]), str(row["context"])) for row in rows])
    ]


def _tag(model: Model, rows: Sequence[InputRow]) -> list[JsonObject]:
    words = [[str(word) for word in row["words"]] if "words" in row else _text(row).split() for row in rows]
    return [
        {
            "words": sentence,
            "tags": ["" if word is None else word.label for word in tagged],
            "probabilities": [0.0 if word is None else word.probability for word in tagged],
        }
        for sentence, tagged in zip(words, model.tag(words), strict=True)
    ]


def _regress(model: Model, rows: Sequence[InputRow]) -> list[JsonObject]:
    return [{"score": score} for score in model.regress(_texts(rows))]


def _candidates(position: Any) -> list[JsonObject]:
    return [{"token": one.text, "probability": one.probability} for one in position.candidates]


def _visible(token: str) -> str:
    """A token as a reader sees it; white space alone in quotation marks."""
    return token.strip() or repr(token)


_PREDICTORS: dict[str, Callable[[Model, Sequence[InputRow]], list[JsonObject]]] = {
    "classify": _classify,
    "multi_label": _multi_label,
    "tag": _tag,
    "regress": _regress,
    "answer": _answer,
}
