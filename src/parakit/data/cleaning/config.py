"""The steps that a corpus can name, and how a name becomes one.

A new step is a module with a `StepConfig`, and a line in `AnyStep`.
"""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.data.cleaning.language import LanguageConfig
from parakit.data.cleaning.personal_data import PersonalDataConfig
from parakit.data.cleaning.quality import QualityConfig
from parakit.data.cleaning.quality_classifier import QualityClassifierConfig
from parakit.data.cleaning.repair_text import RepairTextConfig
from parakit.data.cleaning.repeated_lines import RepeatedLinesConfig
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.word_lists import WordListsConfig
from parakit.data.duplicates.decontamination import DecontaminationConfig
from parakit.data.duplicates.near_duplicates import NearDuplicatesConfig
from parakit.data.duplicates.repeated_passages import RepeatedPassagesConfig

AnyStep = Annotated[
    RepairTextConfig
    | LanguageConfig
    | QualityConfig
    | QualityClassifierConfig
    | WordListsConfig
    | PersonalDataConfig
    | RepeatedLinesConfig
    | NearDuplicatesConfig
    | RepeatedPassagesConfig
    | DecontaminationConfig,
    Field(discriminator="step"),
]
STEPS: dict[str, type[StepConfig]] = {
    config.model_fields["step"].default: config for config in get_args(get_args(AnyStep)[0])
}


def parse_step(value: Any) -> Any:
    """A step from its name, which may have parameters: `language:keep=en,de:min_chars=100`. Settings stay as they are.
    `UserError` for a name or a parameter that is not known.
    """
    if not isinstance(value, str):
        return value
    name, *parameters = value.split(":")
    if name not in STEPS:
        close = closest_match(name, STEPS)
        raise UserError(
            f"{name!r} is no cleaning step",
            f"did you mean {close}?" if close else f"the steps are {', '.join(sorted(STEPS))}",
        )
    values: dict[str, Any] = {"step": name}
    for parameter in parameters:
        key, equals, given = parameter.partition("=")
        if not equals:
            raise UserError(f"{value!r}: {parameter!r} has no value", f"write {name}:KEY=VALUE")
        field = STEPS[name].model_fields.get(key)
        is_list = field is not None and "tuple" in str(field.annotation)
        values[key] = [one for one in given.split(",") if one] if is_list else given
    return STEPS[name].parse(values, value)


CleaningStep = Annotated[AnyStep, BeforeValidator(parse_step, json_schema_input_type=AnyStep | str)]
