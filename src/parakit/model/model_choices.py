"""The choices of a recipe's `model`: everything about a stack but its size, laid over the config of that size.

Width, depth and heads stay those of the size, and the feed-forward width gives way, so that two models that differ in one
choice have the same number of parameters; of experts those count that process a token. Imports no torch.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, create_model, model_serializer
from pydantic.fields import FieldInfo

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import Config
from parakit.model.config import EncoderDecoderConfig, ModelConfig
from parakit.model.transformer_config import TransformerConfig

# Set elsewhere: by the tokenizer, by the recipe's max_seq_len, and under pretrain.
ELSEWHERE = {
    "vocab_size": "tokenizer.vocab_size",
    "max_seq_len": "max_seq_len",
    "dropout": "pretrain.dropout",
}
SHAPE = ("n_heads", "n_kv_heads", "head_dim")
D_FF_STEP = 8
MIN_D_FF_SHARE = 0.25  # of the width; narrower, and the size gives way instead


def _optional(field: FieldInfo) -> tuple[Any, Any]:
    limited: Any = field.annotation
    for limit in field.metadata:
        limited = Annotated[limited, limit]
    return limited | None, Field(default=None, description=field.description)


_FIELDS: dict[str, Any] = {
    name: _optional(field) for name, field in TransformerConfig.model_fields.items() if name not in ELSEWHERE
}
_Choices: Any = create_model("_Choices", __base__=Config, **_FIELDS)


class ModelChoices(_Choices):
    """What the blocks of a new model are; what is left out is the architecture's own. `parakit build --vary
    model.positions=rotary,learned,none` trains one of each.
    """

    def chosen(self) -> JsonObject:
        """The choices that are made."""
        return {name: value for name in self.model_fields_set if (value := getattr(self, name)) is not None}

    @model_serializer(mode="wrap")
    def _without_open(self, handler: SerializerFunctionWrapHandler) -> JsonObject:
        values: JsonObject = handler(self)
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def explain_foreign(cls, values: Mapping[str, Any], key: str, spell: Any) -> tuple[str, str] | None:
        """Keys that a recipe has in another place."""
        if key in ELSEWHERE:
            return "it is no choice of `model`", f"set {spell(ELSEWHERE[key])}"
        return super().explain_foreign(values, key, spell)

    def shaped(self, config: ModelConfig) -> ModelConfig:
        """`config` with the heads, layers and feed-forward width that are chosen, and what follows from them."""
        return _each_stack(config, self._shape)

    @property
    def fix_size(self) -> bool:
        """Whether they leave nothing of the shape open."""
        return {"d_model", "n_layers", "d_ff"} <= self.chosen().keys()

    def applied(self, config: ModelConfig, wanted: int) -> ModelConfig:
        """`config` with all choices, and with `wanted` parameters that process a token: the feed-forward width follows,
        where it is not chosen.
        """
        chosen = self.chosen()
        changed = _each_stack(config, lambda stack: _with(stack, chosen | self._shape_of(stack)))
        if {"d_ff", "d_expert"} & chosen.keys():
            return changed
        width = _with_width(changed, D_FF_STEP).n_active_params()
        slope = (_with_width(changed, 2 * D_FF_STEP).n_active_params() - width) / D_FF_STEP
        steps = 1 + round((wanted - width) / slope / D_FF_STEP) if slope else 0
        least = max(1, round(MIN_D_FF_SHARE * changed.d_model / D_FF_STEP))
        return _with_width(changed, D_FF_STEP * max(least, steps))

    def _shape(self, stack: TransformerConfig) -> TransformerConfig:
        chosen = self.chosen()
        own = {name: chosen[name] for name in ("n_layers", "d_ff", *SHAPE) if name in chosen}
        return _with(stack, own | self._shape_of(stack))

    def _shape_of(self, stack: TransformerConfig) -> JsonObject:
        """Heads and their width, of which one follows from the other."""
        chosen = self.chosen()
        heads = {name: chosen[name] for name in SHAPE if name in chosen}
        if "n_heads" in heads and "head_dim" not in heads:
            if stack.d_model % heads["n_heads"]:
                raise UserError(
                    f"`model.n_heads` = {heads['n_heads']} does not divide the width {stack.d_model}",
                    "set model.head_dim too, or model.d_model to a multiple",
                )
            heads["head_dim"] = stack.d_model // heads["n_heads"]
        if "head_dim" in heads and "n_heads" not in heads:
            heads["n_heads"] = max(1, stack.d_model // heads["head_dim"])
        n_heads = heads.get("n_heads", stack.n_heads)
        ungrouped = stack.n_kv_heads == stack.n_heads or n_heads % stack.n_kv_heads
        if "n_kv_heads" not in heads and ungrouped:
            heads["n_kv_heads"] = n_heads
        return heads

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From a mapping, with errors that name the key."""
        return cls.parse(values, "model")


def _with(stack: TransformerConfig, values: Mapping[str, Any]) -> TransformerConfig:
    given = {
        name: value.model_dump() if isinstance(value, Config) else value for name, value in values.items()
    }
    changed = type(stack).parse(stack.model_dump(exclude_unset=True) | given, "model")
    if changed.factorized_embedding and not changed.head_transform:
        raise UserError(
            "`model.factorized_embedding` needs a head that brings a vector to the embedding's width",
            "set model.head_transform to true",
        )
    return changed


def _each_stack(config: ModelConfig, change: Any) -> ModelConfig:
    if isinstance(config, EncoderDecoderConfig):
        return config.replace(encoder=change(config.encoder), decoder=change(config.decoder))
    changed: ModelConfig = change(config)
    return changed


def _with_width(config: ModelConfig, d_ff: int) -> ModelConfig:
    return _each_stack(config, lambda stack: _with(stack, {"d_ff": d_ff}))
