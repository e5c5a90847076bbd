"""`parakit predict`: what a model that does not chat says of texts: a label, tags, a score, a translation, a vector,
the words behind [MASK].
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import tyro
from pydantic import Field

from parakit.cli.main import merge_repeated_flags
from parakit.cli.rendering.model_loading import model_folder
from parakit.cli.rendering.predictions import asked, predict, read_rows
from parakit.common.devices import pick_device, pick_dtype
from parakit.common.errors import UserError
from parakit.inference.config import BeamConfig

SUMMARY = "Classify, tag, score, translate, embed, or fill masks."
_N_SHOWN = 6  # numbers of a vector, and tokens behind a mask


class PredictCommandConfig(BeamConfig):
    """Ask a classifier, a tagger, a scorer, a translator, an embedder, or an encoder that fills [MASK]."""

    model: tyro.conf.Positional[str] = Field(description="A model folder, or the folder of a build.")
    text: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT ...")] = Field(
        default=(), description="Texts to read; without them --input, or standard input, one a line."
    )
    input: str | None = Field(
        default=None, description="A file: JSON lines with text, source or words, or one text a line."
    )
    n_beams: int = Field(default=1, ge=1, le=1000, description="Translations followed at once; 1 is greedy.")
    n_candidates: int = Field(default=5, ge=1, description="Tokens told for each [MASK].")
    embed: bool = Field(default=False, description="Turn texts into vectors, whatever else the model can do.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: str = Field(default="auto", description="auto, float32, bfloat16, float16, float64.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object a text."
    )


def main(argv: list[str]) -> int:
    """Run `parakit predict` with these arguments; 0 when every text was answered."""
    argv = merge_repeated_flags(argv, ("--text",))
    command = tyro.cli(
        PredictCommandConfig, args=argv, prog="parakit predict", config=(tyro.conf.FlagCreatePairsOff,)
    )
    if command.text and command.input:
        raise UserError("both --text and --input were given", "give one of them")
    from parakit.checkpoints.model_folder import load_model

    target = pick_device(command.device)
    model, tokenizer = load_model(model_folder(command.model), target, pick_dtype(command.dtype, target))
    if tokenizer is None:
        raise UserError(f"{command.model}: has no tokenizer.json, so it cannot read", "put the model's there")
    rows = read_rows(command.text, command.input)
    beams = BeamConfig.parse({name: getattr(command, name) for name in BeamConfig.model_fields})
    answers = predict(
        model, tokenizer, rows, beams, n_candidates=command.n_candidates, as_vectors=command.embed
    )
    for row, answer in zip(rows, answers, strict=True):
        print(
            json.dumps({**asked(row), **answer}, ensure_ascii=False)
            if command.as_json
            else _told(row, answer)
        )
    return 0


def _told(row: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """One answer for people."""
    if "label" in answer:
        return f"{answer['label']}  {100 * answer['probability']:.1f} %  {row.get('text', '')}".rstrip()
    if "tags" in answer:
        return " ".join(f"{word}/{tag}" for word, tag in zip(answer["words"], answer["tags"], strict=True))
    if "score" in answer:
        return f"{answer['score']:.4g}  {row.get('text', '')}".rstrip()
    if "target" in answer:
        return str(answer["target"])
    if "vector" in answer:
        numbers = ", ".join(f"{value:.4f}" for value in answer["vector"][:_N_SHOWN])
        return f"{len(answer['vector'])} numbers: {numbers}, ... (all of them with --json)"
    places = []
    for number, candidates in enumerate(answer["masks"], 1):
        told = ", ".join(f"{_visible(one['token'])} {100 * one['probability']:.1f} %" for one in candidates)
        places.append(f"mask {number}: {told}" if len(answer["masks"]) > 1 else told)
    return "\n".join(places)


def _visible(token: str) -> str:
    """A token as a reader sees it; one of white space alone in quotation marks."""
    return token.strip() or repr(token)
