"""Create adapters for a model: which modules they wrap, and how they are initialized.

Nothing is attached here; `attach` does that. Random values are drawn from torch's global generator. Prompts and prefixes
are initialized with the model's vectors of real tokens, those of a text or of tokens drawn from the vocabulary, which
trains faster and more stably than random vectors (Lester et al. 2021, section 3.2; Li and Liang 2021, section 7.5).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.model.adapters.attachment import Adapter, is_adapted
from parakit.model.adapters.config import LoraConfig, PrefixConfig, PromptConfig
from parakit.model.adapters.lora import (
    DoraLinear,
    FullyTrained,
    LoraEmbedding,
    LoraLinear,
    LowRankWrapper,
    PissaLinear,
    Wrapper,
)
from parakit.model.adapters.prefix_tuning import PrefixTrunk, PromptTrunk, compute_keys_and_values
from parakit.model.adapters.trainable_tokens import TrainableTokens, TrainableTokensHead
from parakit.model.backbones import Decoder
from parakit.model.heads import LanguageModel, TransformerModel
from parakit.model.layers.experts import MixtureOfExperts
from parakit.model.layers.norms import HeadwiseLayerNorm, RMSNorm
from parakit.model.quantized.layers import (
    QuantizedEmbedding,
    QuantizedLinear,
    TiedQuantizedLinear,
    share_weight,
    weight_like,
    weight_rows,
)
from parakit.model.quantized.swapping import SMALL

_MATRICES = (nn.Linear, nn.Embedding, QuantizedLinear, QuantizedEmbedding, TiedQuantizedLinear)


def make_lora(model: TransformerModel, config: LoraConfig) -> Adapter:
    """Low-rank factors for every target, and copies of the `fully_trained` modules. `UserError` names a target that is
    no linear layer or embedding, or that is smaller than its factors.
    """
    assert not is_adapted(model)
    wrappers: dict[str, Wrapper] = {}
    targets = find_targets(model, config.targets)
    linear = [name for name in targets if type(model.get_submodule(name)) in _MATRICES]
    for name in sorted(linear, key=lambda one: min(weight_like(model.get_submodule(one)).shape))[:1]:
        _check_rank(
            model.get_submodule(name), name, config.rank
        )  # of the smallest: it names a rank that fits all
    for name in targets:
        wrapper = make_low_rank(model.get_submodule(name), name, config.rank, config.scale, config)
        wrapper.reset(config.init)
        wrappers[name] = wrapper
    if config.token_ids:
        wrappers |= _checked_trainable_tokens(model, config.token_ids, wrappers)
    for name in config.fully_trained:
        base = model.get_submodule(name)
        wrappers[name] = FullyTrained(base, copy.deepcopy(base))
    return Adapter(config, wrappers)


def _check_rank(base: nn.Module, name: str, rank: int) -> None:
    """A rank is at most the smaller side of a weight."""
    shape: tuple[int, ...] = tuple(weight_like(base).shape)
    if rank > min(shape):
        raise UserError(
            f"rank {rank} is too large for {name}: its weight is {' x '.join(map(str, shape))}",
            f"lower rank to {min(shape)}",
        )


def make_trainable_tokens(
    model: LanguageModel, token_ids: Sequence[int]
) -> dict[str, TrainableTokens | TrainableTokensHead]:
    """Wrappers that train the rows of these tokens; embedding and output matrix share them where they are tied."""
    embedding, head = model.trunk.token_embedding, model.lm_head
    tokens = TrainableTokens(embedding, token_ids, None)
    shared = tokens.rows if share_weight(head, embedding) else None
    return {"trunk.token_embedding": tokens, "lm_head": TrainableTokensHead(head, token_ids, shared)}


def _checked_trainable_tokens(
    model: TransformerModel, token_ids: Sequence[int], targets: Collection[str]
) -> dict[str, TrainableTokens | TrainableTokensHead]:
    if not isinstance(model, LanguageModel):
        raise UserError(
            "rows of tokens are trained in decoders that predict the next token", "leave token_ids out"
        )
    wrappers = make_trainable_tokens(model, token_ids)
    if both := sorted(wrappers.keys() & set(targets)):
        raise UserError(
            f"{both[0]} is a LoRA target, and rows of its tokens were to be trained as well",
            "leave one of them out (--train-turn-tokens False)",
        )
    return wrappers


def make_low_rank(base: nn.Module, name: str, rank: int, scale: float, config: LoraConfig) -> LowRankWrapper:
    """The wrapper of one module, its factors uninitialized."""
    wrapper: LowRankWrapper
    if isinstance(base, nn.Embedding | QuantizedEmbedding) and type(base) in _MATRICES:
        if config.dora or config.init in ("pissa", "olora"):
            what = "dora" if config.dora else f"init {config.init!r}"
            raise UserError(
                f"{what} is for linear layers, and {name} is an embedding", "leave one of them out"
            )
        wrapper = LoraEmbedding(base, rank, scale)
    elif isinstance(base, nn.Linear | QuantizedLinear) and type(base) in _MATRICES:
        kind = DoraLinear if config.dora else PissaLinear if config.init in ("pissa", "olora") else LoraLinear
        wrapper = kind(base, rank, scale, config.dropout)
    else:
        raise UserError(
            f"{name} is a {type(base).__name__}, and LoRA wraps plain linear layers and embeddings"
        )
    _check_rank(base, name, rank)
    return wrapper


def make_prompt(
    model: TransformerModel, config: PromptConfig, token_ids: Sequence[int] | None = None
) -> Adapter:
    """Vectors before the tokens, initialized with the embeddings of `token_ids` (repeated or truncated), or of random
    tokens.
    """
    trunk = _decoder(model, "prompt tuning", config.n_prompt_tokens)
    wrapper = PromptTrunk(trunk, config.n_prompt_tokens)
    with torch.no_grad():
        wrapper.prompt_embedding.copy_(_token_vectors(trunk, config.n_prompt_tokens, token_ids))
    return Adapter(config, {"trunk": wrapper})


def make_prefix(
    model: TransformerModel, config: PrefixConfig, token_ids: Sequence[int] | None = None
) -> Adapter:
    """Keys and values before the tokens', initialized with those that the model computes for `token_ids` (repeated or
    truncated), or for random tokens.
    """
    trunk = _decoder(model, "prefix tuning", config.n_prompt_tokens)
    wrapper = PrefixTrunk(trunk, config.n_prompt_tokens)
    training = trunk.training
    with torch.no_grad():
        vectors = _token_vectors(trunk, config.n_prompt_tokens, token_ids)[None]
        wrapper.set_keys_and_values(compute_keys_and_values(trunk.eval(), vectors))
    trunk.train(training)
    return Adapter(config, {"trunk": wrapper})


def find_targets(model: TransformerModel, targets: Sequence[str] | None) -> list[str]:
    """Names of the modules that LoRA wraps, each once. None: the linear layers of the blocks, without routers and those
    that compute one number for a head or a token.
    """
    if targets is None:
        kinds = nn.Linear | QuantizedLinear
        linear = (name for name, module in model.named_modules() if isinstance(module, kinds))
        return [n for n in linear if ".blocks." in f".{n}" and n.rpartition(".")[2] not in SMALL]
    names: dict[str, None] = {}
    stacked = [
        f"{name}.{parameter}"
        for name, module in model.named_modules()
        if isinstance(module, MixtureOfExperts)
        for parameter in ("gate", "up", "down")
    ]
    for target in targets:
        if matching := [name for name in stacked if f".{name}".endswith(f".{target}")]:
            raise UserError(
                f"LoRA target {target!r}: {matching[0]} stacks all experts in one parameter, which LoRA does not wrap",
                "name other targets, such as query, key, value, output",
            )
        names |= dict.fromkeys(_modules_named(model, target))
    return list(names)


def find_norms(model: TransformerModel) -> list[str]:
    """Names of all norms that have weights."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, RMSNorm | nn.LayerNorm | HeadwiseLayerNorm)
        and any(True for _ in module.parameters())
    ]


def _modules_named(model: nn.Module, target: str) -> list[str]:
    """Linear layers and embeddings whose name is `target`, or ends with it."""
    known = [
        name
        for name, module in model.named_modules()
        if name and isinstance(module, nn.Linear | nn.Embedding | QuantizedLinear | QuantizedEmbedding)
    ]
    matching = [name for name in known if name == target or name.endswith(f".{target}")]
    if not matching:
        last = sorted({name.rpartition(".")[2] for name in known})
        close = closest_match(target, last)
        suggestion = f"did you mean {close!r}? " if close else ""
        listed = [name for name in last if not name.isdigit()]
        raise UserError(
            f"no layer of this model is called {target!r}", f"{suggestion}there are: {', '.join(listed)}"
        )
    return matching


def _decoder(model: TransformerModel, what: str, n_prompt_tokens: int) -> Decoder:
    """The trunk of a model that supports virtual tokens before its text."""
    assert not is_adapted(model)
    if not isinstance(model, LanguageModel):
        raise UserError(
            f"{what} is for decoders that predict the next token, and this is a {type(model).__name__}",
            "use --method lora",
        )
    config = model.config
    for name, supported in (("attention", "softmax"), ("sliding_window", None), ("delta_rule", None)):
        if getattr(config, name) != supported:
            raise UserError(
                f"{what}: {name} = {getattr(config, name)!r}, and every token must be able to attend to a prefix",
                "use --method lora",
            )
    if config.positions == "relative":
        raise UserError(f"{what}: positions = 'relative', and a prefix has none", "use --method lora")
    if n_prompt_tokens > config.max_seq_len - 2:
        raise UserError(
            f"n_prompt_tokens = {n_prompt_tokens} leaves no tokens of the context window of {config.max_seq_len}",
            f"lower n_prompt_tokens to {max(1, config.max_seq_len // 4)}",
        )
    return model.trunk


def _token_vectors(trunk: Decoder, n: int, token_ids: Sequence[int] | None) -> Tensor:
    """(n, d_model) embeddings of real tokens."""
    like = weight_like(trunk.token_embedding)
    if not token_ids:
        chosen = torch.randint(like.shape[0], (n,))
    else:
        chosen = torch.tensor([token_ids[i % len(token_ids)] for i in range(n)])
    return weight_rows(trunk.token_embedding, chosen.to(like.device))
