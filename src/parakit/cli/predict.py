"""`parakit predict`: labels, tags, scores, answers, translations, vectors or masked tokens for texts."""

import json
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field

import parakit
from parakit.cli.generate import sampling_settings
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.cli.rendering.predictions import inputs_of, predict, prediction_text, read_rows
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.inference.config import BeamConfig, BeamSettings, CacheDtype, WhenFull

if TYPE_CHECKING:
    from parakit.inference.loaded_model import Model


class PredictCommandConfig(BeamConfig):
    """Predict with a classifier, tagger, regressor, reranker, translator or embedder, or fill [MASK] with an encoder."""

    model: tyro.conf.Positional[str] = Field(description="A model folder, or the folder of a build.")
    text: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT ...")] = Field(
        default=(), description="Texts. Default: --input, or else standard input, one per line."
    )
    input: str | None = Field(
        default=None,
        description="A file: JSON lines with text (and text_pair), source, words, or question and"
        " context; or one text per line.",
    )
    n_beams: int = Field(default=1, ge=1, le=1000, description="Beams of a translation; 1: greedy.")
    source_language: str | None = Field(
        default=None, description="Of a translation: as the tokenizer names it (fra_Latn, fr_XX, fr)."
    )
    target_language: str | None = Field(
        default=None, description="Language to translate into, as the tokenizer names it."
    )
    when_full: tyro.conf.Suppress[WhenFull] = "refuse"  # a source and its translation share no window
    cache_dtype: tyro.conf.Suppress[CacheDtype] = "auto"
    n_candidates: int = Field(default=5, ge=1, description="Candidate tokens per [MASK].")
    embed: bool = Field(default=False, description="Compute text embeddings, whatever the model's task.")
    prompt_name: str | None = Field(
        default=None,
        description="The prompt to put before every text, by its name in the model. Default: the model's default.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: str = Field(default="auto", description="auto, float32, bfloat16, float16, float64.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object per text."
    )


def _needs(model: "Model", as_vectors: bool) -> tuple[Needs, ...]:
    """What a model of this kind does not read."""
    main = "embed" if as_vectors else model.kind.capabilities[0]
    kind = f"this model is {model.kind.description}"
    return (
        Needs(
            tuple(BeamConfig.model_fields),
            lambda _: main == "translate",
            f"{kind}, and nothing is translated",
            "take a translator",
        ),
        Needs(
            ("n_candidates",), lambda _: main == "fill_mask", f"{kind} and fills no masks", "take an encoder"
        ),
        Needs(
            ("length_penalty", "stop_when"),
            lambda command: (
                command.n_beams > 1
                or ("n_beams" not in command.model_fields_set and model.published.get("n_beams", 1) > 1)
            ),
            "there is one beam, which is greedy",
            "raise --n-beams",
        ),
    )


def main(argv: list[str]) -> int:
    """Run `parakit predict` with these arguments; 0 when there is a prediction for every text."""
    command = parse_command(PredictCommandConfig, argv, "parakit predict")
    if command.text and command.input:
        raise UserError("both --text and --input were given", "give one of them")
    model = parakit.load(command.model, device=command.device, dtype=command.dtype)
    refuse_inert(command, _needs(model, command.embed))
    rows = read_rows(command.text, command.input)
    languages = {name: getattr(command, name) for name in ("source_language", "target_language")}
    translation: JsonObject = {}
    if model.kind.capabilities[0] == "translate":
        translation = languages | sampling_settings(command, argv, model.published, BeamSettings)
        from parakit.inference.generation.published_rules import lacks_target

        if command.target_language is None and lacks_target(model.network, model.tokenizer):
            log("no --target-language: the model chooses one of its languages")
    elif any(languages.values()):
        raise UserError(
            f"a language was given, and this model is {model.kind.description}", "leave out the language"
        )
    predictions = predict(
        model,
        rows,
        translation,
        n_candidates=command.n_candidates,
        as_vectors=command.embed,
        prompt_name=command.prompt_name,
    )
    for row, prediction in zip(rows, predictions, strict=True):
        if command.as_json:
            print(json.dumps({**inputs_of(row), **prediction}, ensure_ascii=False))
        else:
            print(prediction_text(row, prediction))
    return 0
