"""The methods of fine-tuning: which parameters train, and whether an adapter or the model is written.

`full` trains all weights and `layers` some blocks; `lora`, `prompt` and `prefix` attach an adapter; `quantization_aware` trains
all weights under rounding. A new head always trains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from parakit.checkpoints.adapters.base_model import require_full_model
from parakit.checkpoints.adapters.folder import check_adapter_can_be_saved
from parakit.checkpoints.compressed_tensors.export import check_plan_can_be_saved
from parakit.checkpoints.model_folder import head_of, require_plain_weights
from parakit.checkpoints.publisher import choose_architecture, publisher_of
from parakit.common.errors import UserError
from parakit.model.adapters import (
    Adapter,
    PrefixConfig,
    PromptConfig,
    adapter_parameters,
    attach,
    make_lora,
    make_prefix,
    make_prompt,
)
from parakit.model.adapters.creation import find_norms
from parakit.model.config import DecoderConfig, ModelConfig
from parakit.model.heads import Classifier, TransformerModel
from parakit.model.presets import ModelSizing
from parakit.model.quantized import QuantScheme, make_plan, quantizable
from parakit.model.quantized.fake_quantization import finish, prepare
from parakit.stages.config import (
    AdapterFinetuneConfig,
    FinetuneConfig,
    LayersFinetuneConfig,
    LoraFinetuneConfig,
    PromptFinetuneConfig,
    QuantizationAwareConfig,
    VirtualTokensConfig,
)
from parakit.stages.defaults.published import PUBLISHED_FACTORS
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingPlan

# Times AdamW's default learning rate: adapters start at zero. Measured at width 128 (docs/log.md); beyond, the rate of
# matrices falls with the width (Yang et al. 2022, table 8).
RATE_FACTORS = {"lora": 8.0, "prompt": 150.0, "prefix": 400.0}
MEASURED_WIDTH = 128


@dataclass(frozen=True)
class FinetuneSetup:
    """`adapter` is attached to the model and saved in its place; None: the model is saved. `frozen`: whether the
    parameter of this name is frozen.
    """

    adapter: Adapter | None = None
    frozen: Callable[[str], bool] | None = None
    finish: Callable[[TransformerModel], None] | None = None
    """What is done to the trained model before it is written."""


def setup_method(
    model: TransformerModel, training: FinetuneConfig, tokenizer: Tokenizer, new_turns: bool = False
) -> FinetuneSetup:
    """Freeze the parameters that the method does not train, and attach its adapter. `new_turns`: the model is trained
    for chat and was not before.
    """
    heads = _label_heads(model)
    if training.method == "full":
        return FinetuneSetup()
    if training.in_parts:
        raise UserError(
            f"in_parts and method = {training.method!r}: only all weights are trained in parts",
            "leave one out",
        )
    if isinstance(training, QuantizationAwareConfig):
        plan, head = _rounding_plan(model, training), head_of(model)
        architecture = choose_architecture(model.config, head, publisher_of(model))
        check_plan_can_be_saved(model, plan, architecture, head)
        prepare(model, plan)
        return FinetuneSetup(finish=finish)
    if isinstance(training, LayersFinetuneConfig):
        return FinetuneSetup(frozen=_freeze_other_layers(model, training.trained_layers, heads))
    if isinstance(training, LoraFinetuneConfig):
        turns = new_turns if training.train_turn_tokens is None else training.train_turn_tokens
        norms = new_turns if training.train_norms is None else training.train_norms
        fully_trained = (*heads, *_norms_outside(model, heads)) if norms else heads
        token_ids = tuple(sorted(tokenizer.turn_ids.values())) if turns else ()
        adapter = make_lora(model, training.adapter(fully_trained, token_ids))
    else:
        assert isinstance(training, VirtualTokensConfig)
        text_ids = tokenizer.encode(training.prompt_text) if training.prompt_text else None
        if isinstance(training, PromptFinetuneConfig):
            adapter = make_prompt(model, PromptConfig(n_prompt_tokens=training.n_prompt_tokens), text_ids)
        else:
            adapter = make_prefix(model, PrefixConfig(n_prompt_tokens=training.n_prompt_tokens), text_ids)
    attach(model, adapter)
    check_adapter_can_be_saved(model, adapter)
    trained = {name for name in adapter_parameters(model) if not name.endswith("_start")}
    return FinetuneSetup(adapter, lambda name: name not in trained)


def check_method_fits(folder: Path | None, training: FinetuneConfig) -> None:
    """`UserError` for a folder that is an adapter, and without a trained model (None) for a method that needs one."""
    if folder is None and training.method != "full":
        raise UserError(
            f"method {training.method!r} needs a trained model, but this one is trained from scratch",
            "leave the method out, or pre-train first",
        )
    if folder is not None:
        require_full_model(folder, "tuning")
        if not isinstance(training, AdapterFinetuneConfig):
            require_plain_weights(folder, f"method {training.method!r}")


def adjust_sizing(sizing: ModelSizing, training: FinetuneConfig) -> ModelSizing:
    """The default hyperparameters for this method: learning rates, and the context window without the prompt."""
    if not isinstance(training, AdapterFinetuneConfig):
        return sizing
    if sizing.is_published:
        rate = sizing.learning_rate * PUBLISHED_FACTORS[training.method]
    else:
        rate = sizing.embedding_learning_rate * RATE_FACTORS[training.method]
        if training.method == "lora":
            rate *= min(1.0, MEASURED_WIDTH / sizing.config.d_model)
    return replace(
        sizing, learning_rate=rate, embedding_learning_rate=rate, config=_shorten(sizing.config, training)
    )


def adjust_plan(plan: TrainingPlan, training: FinetuneConfig) -> TrainingPlan:
    """The plan for this method; with prompts nothing is compiled, because each step would be compiled again, nor are layers
    that round their weights.
    """
    eager = isinstance(training, VirtualTokensConfig | QuantizationAwareConfig)
    return plan.replace(compile="off") if eager else plan


def _rounding_plan(model: TransformerModel, training: QuantizationAwareConfig) -> dict[str, QuantScheme]:
    """The scheme of every matrix; one that does not fit the groups has 8 bits."""
    scheme = training.scheme()
    outside = scheme if training.quantize_embeddings else None
    plan = make_plan(model, scheme, embeddings=outside, head=outside)
    shapes = quantizable(model)
    return {
        name: one if one.fault(shapes[name]) is None else QuantScheme(bits=8) for name, one in plan.items()
    }


def _shorten(config: ModelConfig, training: FinetuneConfig) -> ModelConfig:
    if not (isinstance(training, VirtualTokensConfig) and isinstance(config, DecoderConfig)):
        return config
    return config.replace(max_seq_len=max(2, config.max_seq_len - training.n_prompt_tokens))


def _label_heads(model: TransformerModel) -> tuple[str, ...]:
    if not isinstance(model, Classifier):
        return ()
    return tuple(
        name for name in ("dense", "label_head") if any(True for _ in getattr(model, name).parameters())
    )


def _norms_outside(model: TransformerModel, heads: tuple[str, ...]) -> list[str]:
    """The names of norms outside the heads, which train in full anyway."""
    return [name for name in find_norms(model) if name.split(".")[0] not in heads]


def _freeze_other_layers(
    model: TransformerModel, layers: tuple[int, ...], heads: tuple[str, ...]
) -> Callable[[str], bool]:
    """Train these blocks and the heads; returns whether a parameter is frozen, by name."""
    blocks = list(model.trunk.blocks)
    if not layers:
        raise UserError(
            "method 'layers' needs the blocks to train (trained_layers)", "for example --trained-layers -2 -1"
        )
    for layer in layers:
        if not -len(blocks) <= layer < len(blocks):
            raise UserError(
                f"trained_layers names layer {layer}, but the model has {len(blocks)} of them",
                f"they are 0 to {len(blocks) - 1}, or -1 to {-len(blocks)} from the end",
            )
    chosen = {id(p) for layer in layers for p in blocks[layer].parameters()}
    trained = {name for name, p in model.named_parameters() if id(p) in chosen or name.split(".")[0] in heads}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return lambda name: name not in trained
