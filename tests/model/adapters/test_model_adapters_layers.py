"""Every adapter on every kind of layer: the adapted model computes what a plain model with the merged weights does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parakit.model.adapters import (
    LoraConfig,
    PrefixConfig,
    PromptConfig,
    attach,
    make_lora,
    make_prefix,
    make_prompt,
)
from parakit.model.adapters.lora import FullyTrained, LowRankWrapper
from parakit.model.config import ClassifierConfig, EmbedderConfig
from parakit.model.heads import (
    ActorCritic,
    Classifier,
    Embedder,
    LanguageModel,
    MaskedLanguageModel,
    RewardModel,
    SequenceToSequence,
    TransformerModel,
)
from tests.model.formulas import config_of, encoder_of, joined_of, random_weights
from tests.short_suite import crossed

IDS = torch.randint(3, 61, (2, 23), generator=torch.Generator().manual_seed(3))
MASK = torch.ones(2, 23, dtype=torch.bool)
MASK[1, 17:] = False
LABELS = ClassifierConfig(labels=("no", "yes"), pooling="last", head="tanh")

MODELS: dict[str, Callable[[], TransformerModel]] = {
    "decoder": lambda: LanguageModel(config_of()),
    "decoder, untied, biases": lambda: LanguageModel(
        config_of(tie_embeddings=False, lm_head_bias=True, attention_bias=True, attention_output_bias=True)
    ),
    "decoder, window": lambda: LanguageModel(config_of(sliding_window=5)),
    "decoder, linear": lambda: LanguageModel(config_of(attention="linear")),
    "decoder, experts": lambda: LanguageModel(config_of(n_experts=4, n_shared_experts=1)),
    "decoder, relative": lambda: LanguageModel(config_of(positions="relative")),
    "decoder, learned": lambda: LanguageModel(
        config_of(positions="learned", gated=False, feed_forward_bias=True)
    ),
    "decoder, soft caps": lambda: LanguageModel(config_of(attention_soft_cap=2.0, logit_soft_cap=3.0)),
    "encoder": lambda: MaskedLanguageModel(encoder_of()),
    "encoder, local and global": lambda: MaskedLanguageModel(encoder_of(sliding_window=6, local_layers=(1,))),
    "encoder, linear": lambda: MaskedLanguageModel(encoder_of(attention="linear")),
    "encoder, low rank": lambda: MaskedLanguageModel(encoder_of(attention="low_rank", low_rank_len=3)),
    "encoder, token types": lambda: MaskedLanguageModel(encoder_of(n_token_types=2, post_norm=True)),
    "encoder-decoder": lambda: SequenceToSequence(joined_of(positions="sinusoidal")),
    "encoder-decoder, relative": lambda: SequenceToSequence(
        joined_of(positions="relative", tie_embeddings=False)
    ),
    "classifier, local": lambda: Classifier(encoder_of(sliding_window=6), LABELS),
    "classifier of tokens": lambda: Classifier(config_of(), LABELS.replace(level="token", head="transform")),
    "reward model": lambda: RewardModel(config_of(sliding_window=5)),
    "embedder": lambda: Embedder(encoder_of(sliding_window=6), EmbedderConfig()),
}
INITS = {
    "lora": LoraConfig(rank=2),
    "rslora": LoraConfig(rank=2, rank_stabilized=True, init="gaussian"),
    "dora": LoraConfig(rank=2, dora=True),
    "pissa": LoraConfig(rank=2, init="pissa"),
    "olora": LoraConfig(rank=2, init="olora"),
}


def random_model(name: str) -> TransformerModel:
    model: TransformerModel = random_weights(MODELS[name]()).double()
    return model


def outputs(model: TransformerModel, **context: Any) -> Tensor:
    if isinstance(model, SequenceToSequence):
        return model(IDS, IDS[:, :9], source_mask=MASK, **context)
    return model(IDS, attention_mask=MASK, **context)


def layers_of(model: TransformerModel, *kinds: type[nn.Module]) -> tuple[str, ...]:
    """Full names of the modules of these kinds with a rank of at least 2."""
    return tuple(
        name for name, one in model.named_modules() if isinstance(one, kinds) and min(one.weight.shape) >= 2
    )


def merged(model: TransformerModel, plain: TransformerModel) -> TransformerModel:
    """`plain` with the weights that base and adapter of `model` have together."""
    for name, module in model.named_modules():
        if isinstance(module, LowRankWrapper):
            target = plain.get_submodule(name)
            target.weight = nn.Parameter(module.merged_weight())  # also unties what the adapter has untied
        elif isinstance(module, FullyTrained):
            plain.get_submodule(name).load_state_dict(module.copy.state_dict())
    return plain


def check_gradients(model: TransformerModel, parameters: dict[str, nn.Parameter]) -> None:
    model.train()
    outputs(model).square().sum().backward()
    for name, parameter in parameters.items():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@crossed("name, init", list(MODELS), list(INITS))
def test_low_rank_adapters_of_all_linear_layers(name: str, init: str) -> None:
    model = random_model(name).eval()
    plain, config = copy.deepcopy(model), INITS[init]
    adapter = make_lora(model, config.replace(targets=layers_of(model, nn.Linear), dropout=0.1))
    before = outputs(model)
    attach(model, adapter)
    torch.testing.assert_close(outputs(model), before, rtol=0, atol=1e-9)
    for parameter in adapter.parameters().values():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    changed = outputs(model)
    assert (changed - before).abs().max() > 1e-6
    torch.testing.assert_close(changed, outputs(merged(model, plain)), rtol=1e-9, atol=1e-9)
    check_gradients(model, adapter.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_low_rank_adapters_of_all_embeddings(name: str) -> None:
    model = random_model(name).eval()
    plain = copy.deepcopy(model)
    adapter = make_lora(model, LoraConfig(rank=2, targets=layers_of(model, nn.Embedding)))
    attach(model, adapter)
    for parameter in adapter.parameters().values():
        nn.init.normal_(parameter, std=0.3)
    plain = merged(model, plain)
    if isinstance(plain, SequenceToSequence):
        plain.trunk.decoder.token_embedding.weight = plain.trunk.encoder.token_embedding.weight
    torch.testing.assert_close(outputs(model), outputs(plain), rtol=1e-9, atol=1e-9)
    check_gradients(model, adapter.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_full_copies_of_every_layer_with_weights(name: str) -> None:
    model = random_model(name).eval()
    plain = copy.deepcopy(model)
    names = tuple(
        name
        for name, one in model.named_modules()
        if one._parameters and not list(one.children()) and not name.endswith("lm_head")
    )
    adapter = make_lora(
        model, LoraConfig(rank=2, targets=("lm_head",) if hasattr(model, "lm_head") else None)
    )
    adapter.wrappers.update(make_lora(model, LoraConfig(rank=2, fully_trained=names)).wrappers)
    attach(model, adapter)
    for parameter in adapter.parameters().values():
        nn.init.normal_(parameter, std=0.3)
    torch.testing.assert_close(outputs(model), outputs(merged(model, plain)), rtol=1e-9, atol=1e-9)
    check_gradients(model, adapter.parameters())


DECODERS = [name for name in MODELS if name.startswith("decoder")]


@pytest.mark.parametrize("name", DECODERS)
def test_trainable_tokens_on_every_decoder(name: str) -> None:
    model = random_model(name).eval()
    plain = copy.deepcopy(model)
    ids = (5, 9, int(IDS[0, 3]))
    adapter = make_lora(model, LoraConfig(rank=2, token_ids=ids))
    attach(model, adapter)
    for parameter in adapter.parameters().values():
        nn.init.normal_(parameter, std=0.3)
    for layer in ("trunk.token_embedding", "lm_head"):
        wrapper = model.get_submodule(layer)
        plain.get_submodule(layer).weight = nn.Parameter(wrapper.merged_weight())
    torch.testing.assert_close(outputs(model), outputs(merged(model, plain)), rtol=1e-9, atol=1e-9)
    check_gradients(model, adapter.parameters())


@crossed(
    "name, kind",
    [one for one in DECODERS if not one.endswith(("window", "linear", "relative"))],
    ["prompt", "prefix"],
)
def test_prompts_and_prefixes_on_every_decoder_that_supports_them(name: str, kind: str) -> None:
    model = random_model(name).eval()
    adapter = (
        make_prompt(model, PromptConfig(n_prompt_tokens=3), [5, 6, 7])
        if kind == "prompt"
        else make_prefix(model, PrefixConfig(n_prompt_tokens=3), [5, 6, 7])
    )
    virtual, real = torch.tensor([[5, 6, 7]] * 2), torch.ones(2, 3, dtype=torch.bool)
    expected = model(torch.cat([virtual, IDS], 1), attention_mask=torch.cat([real, MASK], 1))[:, 3:]
    attach(model, adapter)
    torch.testing.assert_close(outputs(model)[MASK], expected[MASK], rtol=1e-6, atol=1e-6)
    check_gradients(model, adapter.parameters())


@pytest.mark.parametrize("config", [*INITS.values(), LoraConfig(fully_trained=("lm_head",), rank=2)], ids=str)
def test_an_adapted_policy_gets_a_value_head(config: LoraConfig) -> None:
    model = LanguageModel(config_of(tie_embeddings=False))
    targets = None if config.fully_trained else ("lm_head", "query")
    attach(model, make_lora(model, config.replace(targets=targets)))
    actor_critic = ActorCritic(model)
    assert actor_critic.values(actor_critic.hidden(IDS)).shape == IDS.shape
