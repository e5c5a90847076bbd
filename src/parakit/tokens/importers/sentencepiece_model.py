"""A sentencepiece model file (`spiece.model`, `tokenizer.model`, `source.spm`), read without sentencepiece.

The file is one protobuf message: pieces with scores and kinds, the training settings, the normalization. Only the fields
that affect ids are read; the numbers are those of sentencepiece_model.proto. The file is untrusted: its size, the number
of pieces and every value are checked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from parakit.common.errors import CorruptArtifact
from parakit.common.files import JsonObject
from parakit.tokens.importers.charsmap import check_charsmap
from parakit.tokens.importers.protobuf import Value, as_bytes, as_float, as_int, fields

MAX_FILE_BYTES, MAX_PIECES, MAX_PIECE_BYTES = 100_000_000, 2_000_000, 4096
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_MODELS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_HINT = "the file is damaged or no sentencepiece model: fetch it again"


@dataclass(frozen=True, slots=True)
class SentencePiece:
    """One piece of the vocabulary; its id is its index in the list."""

    piece: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """The content of a model file, with sentencepiece's defaults."""

    pieces: tuple[SentencePiece, ...]
    model: Literal["unigram", "bpe", "word", "char"]
    byte_fallback: bool = False
    suffix_spaces: bool = False
    charsmap: bytes = b""
    dummy_prefix: bool = True
    remove_extra_spaces: bool = True
    escape_spaces: bool = True
    denormalizes: bool = False
    ids: dict[str, int] = field(default_factory=dict)  # unk, bos, eos, pad; -1 where there is none

    def control(self, purpose: str) -> str | None:
        """The piece for `purpose` (unk, bos, eos, pad), or None."""
        number = self.ids[purpose]
        return self.pieces[number].piece if 0 <= number < len(self.pieces) else None


def read_sentencepiece(path: str | Path) -> SentencePieceModel:
    """Read a model file; `CorruptArtifact` naming it when it is invalid."""
    path = Path(path)
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise CorruptArtifact(
            f"{path}: has {size} bytes; {MAX_FILE_BYTES} is the limit for a tokenizer", _HINT
        )
    try:
        return parse_sentencepiece(path.read_bytes())
    except ValueError as error:
        raise CorruptArtifact(f"{path}: not readable as a sentencepiece model: {error}", _HINT) from None


def parse_sentencepiece(data: bytes) -> SentencePieceModel:
    """The model in `data`; `ValueError` that says what is invalid."""
    pieces: list[SentencePiece] = []
    trainer: dict[int, Value] = {}
    normalizer: dict[int, Value] = {}
    denormalizer: dict[int, Value] = {}
    for number, _, value in fields(data):
        if number == 1:
            pieces.append(_piece(as_bytes(value)))
            if len(pieces) > MAX_PIECES:
                raise ValueError(f"more than {MAX_PIECES} pieces")
        elif number in (2, 3, 5):
            message = {2: trainer, 3: normalizer, 5: denormalizer}[number]
            message.update({inner: content for inner, _, content in fields(as_bytes(value))})
    check_pieces(pieces)
    charsmap = as_bytes(normalizer.get(2, b""))
    check_charsmap(charsmap)
    kind = as_int(trainer.get(3, 1))
    if kind not in _MODELS:
        raise ValueError(f"its model type is {kind}, not 1 to {len(_MODELS)}")
    model_fields: JsonObject = {"pieces": tuple(pieces), "model": _MODELS[kind], "charsmap": charsmap}
    model_fields["byte_fallback"] = _flag(trainer, 35, False)
    model_fields["suffix_spaces"] = _flag(trainer, 24, False)
    model_fields["dummy_prefix"] = _flag(normalizer, 3, True)
    model_fields["remove_extra_spaces"] = _flag(normalizer, 4, True)
    model_fields["escape_spaces"] = _flag(normalizer, 5, True)
    model_fields["denormalizes"] = bool(denormalizer.get(2))
    numbers = {"unk": (40, 0), "bos": (41, 1), "eos": (42, 2), "pad": (43, -1)}
    ids = {name: as_int(trainer.get(number, default)) for name, (number, default) in numbers.items()}
    ids["unk"] = next(i for i, piece in enumerate(pieces) if piece.kind == UNKNOWN)
    return SentencePieceModel(**model_fields, ids=ids)


def _piece(data: bytes) -> SentencePiece:
    piece, score, kind = b"", 0.0, NORMAL
    for number, _, value in fields(data):
        if number == 1:
            piece = as_bytes(value)
        elif number == 2:
            score = as_float(value)
        elif number == 3:
            kind = as_int(value)
    if not 0 < len(piece) <= MAX_PIECE_BYTES:
        raise ValueError(f"a piece of {len(piece)} bytes; 1 to {MAX_PIECE_BYTES} are allowed")
    if not NORMAL <= kind <= BYTE:
        raise ValueError(f"a piece of kind {kind}, not {NORMAL} to {BYTE}")
    return SentencePiece(piece.decode("utf-8"), score, kind)


def check_pieces(pieces: list[SentencePiece]) -> None:
    if len({piece.piece for piece in pieces}) != len(pieces):
        raise ValueError("two pieces are the same")
    n_unknown = sum(piece.kind == UNKNOWN for piece in pieces)
    if n_unknown != 1:
        raise ValueError(f"{n_unknown} pieces are of the kind unknown, not one")
    n_bytes = sum(piece.kind == BYTE for piece in pieces)
    if n_bytes not in (0, 256):
        raise ValueError(f"{n_bytes} pieces are bytes, not 0 or 256")
    names = {f"<0x{byte:02X}>" for byte in range(256)}
    if n_bytes and {piece.piece for piece in pieces if piece.kind == BYTE} != names:
        raise ValueError("the byte pieces are not <0x00> to <0xFF>")


def _flag(message: dict[int, Value], number: int, default: bool) -> bool:
    return bool(as_int(message[number])) if number in message else default
