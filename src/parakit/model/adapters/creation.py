"""Fresh adapters for a model: which modules they wrap, and what they begin with.

Nothing is put on here; `attach` does that. Random beginnings are drawn from torch's global generator. Prompts and
prefixes begin with what the model makes of real tokens: of a text's, or of some drawn from the vocabulary, which
trains faster and more stably than noise (Lester et al. 2021, section 3.2; Li and Liang 2021, section 7.5).
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
    LowRank,
    PissaLinear,
    Wrapper,
)
from parakit.model.adapters.prefix_tuning import PrefixTrunk, PromptTrunk, read_vectors
from parakit.model.adapters.trainable_tokens import TrainableTokens, TrainedRowsHead
from parakit.model.backbones import Decoder
from parakit.model.heads import LanguageModel, Model
from parakit.model.layers.experts import MixtureOfExperts
from parakit.model.layers.norms import RMSNorm


def make_lora(model: Model, config: LoraConfig) -> Adapter:
    """Low-rank factors beside every target, and copies of what is `retrained`. `UserError` names a target that is
    no linear layer or embedding, or whose factors would be larger than itself.
    """
    assert not is_adapted(model)
    wrappers: dict[str, Wrapper] = {}
    for place in find_targets(model, config.targets):
        wrapper = low_rank(model.get_submodule(place), place, config.rank, config.scale, config)
        wrapper.reset(config.init)  # type: ignore[operator]
        wrappers[place] = wrapper
    wrappers |= _token_rows(model, config.token_ids, wrappers)
    for place in config.retrained:
        base = model.get_submodule(place)
        wrappers[place] = FullyTrained(base, copy.deepcopy(base))
    return Adapter(config, wrappers)


def token_rows(model: LanguageModel, token_ids: Sequence[int]) -> dict[str, Wrapper]:
    """Wrappers that train the rows of these tokens; one set of rows for both sides where they are tied."""
    embedding, head = model.trunk.token_embedding, model.lm_head
    first = TrainableTokens(embedding, token_ids, None)
    shared = first.rows if head.weight is embedding.weight else None
    return {"trunk.token_embedding": first, "lm_head": TrainedRowsHead(head, token_ids, shared)}


def _token_rows(model: Model, token_ids: Sequence[int], others: Collection[str]) -> dict[str, Wrapper]:
    if not token_ids:
        return {}
    if not isinstance(model, LanguageModel):
        raise UserError(
            "rows of tokens are trained in decoders that predict the next token", "leave token_ids out"
        )
    found = token_rows(model, token_ids)
    if taken := sorted(found.keys() & set(others)):
        raise UserError(
            f"{taken[0]} is a LoRA target, and rows of its tokens were to be trained as well",
            "leave one of them out (--train-turn-tokens False)",
        )
    return found


def low_rank(base: nn.Module, place: str, rank: int, scale: float, config: LoraConfig) -> LowRank:
    """The wrapper for one module, its factors not yet set."""
    if type(base) is nn.Embedding:
        if config.dora or config.init in ("pissa", "olora"):
            what = "dora" if config.dora else f"init {config.init!r}"
            raise UserError(
                f"{what} is for linear layers, and {place} is an embedding", "leave one of them out"
            )
        largest, wrapper = min(base.weight.shape), LoraEmbedding(base, rank, scale)
        made: LowRank = wrapper
    elif type(base) is nn.Linear:
        kind = DoraLinear if config.dora else PissaLinear if config.init in ("pissa", "olora") else LoraLinear
        largest, made = min(base.weight.shape), kind(base, rank, scale, config.dropout)
    else:
        raise UserError(
            f"{place} is a {type(base).__name__}, and LoRA wraps plain linear layers and embeddings"
        )
    if rank > largest:
        raise UserError(
            f"rank {rank} is over what {place} has: its weight is {' x '.join(map(str, base.weight.shape))}",
            f"choose a rank of at most {largest}",
        )
    return made


def make_prompt(model: Model, config: PromptConfig, token_ids: Sequence[int] | None = None) -> Adapter:
    """Vectors before the tokens, at first those of `token_ids` (repeated or cut to the number), or of tokens drawn
    at random.
    """
    trunk = _decoder(model, "prompt tuning", config.n_prompt_tokens)
    wrapper = PromptTrunk(trunk, config.n_prompt_tokens)
    with torch.no_grad():
        wrapper.prompt_embedding.copy_(_vectors(trunk, config.n_prompt_tokens, token_ids))
    return Adapter(config, {"trunk": wrapper})


def make_prefix(model: Model, config: PrefixConfig, token_ids: Sequence[int] | None = None) -> Adapter:
    """Keys and values before the tokens', at first those that the model has for `token_ids`, or for tokens drawn at
    random.
    """
    trunk = _decoder(model, "prefix tuning", config.n_prompt_tokens)
    wrapper = PrefixTrunk(trunk, config.n_prompt_tokens)
    training = trunk.training
    with torch.no_grad():
        wrapper.take(read_vectors(trunk.eval(), _vectors(trunk, config.n_prompt_tokens, token_ids)[None]))
    trunk.train(training)
    return Adapter(config, {"trunk": wrapper})


def find_targets(model: Model, targets: Sequence[str] | None) -> list[str]:
    """Places of the modules that LoRA wraps, each once. None: the linear layers of the blocks, without routers."""
    if targets is None:
        linear = (place for place, module in model.named_modules() if isinstance(module, nn.Linear))
        return [p for p in linear if ".blocks." in f".{p}" and p.rpartition(".")[2] != "router"]
    found: dict[str, None] = {}
    for target in targets:
        for place, module in model.named_modules():
            if isinstance(module, MixtureOfExperts) and target.rpartition(".")[2] in ("gate", "up", "down"):
                raise UserError(
                    f"LoRA target {target!r}: the experts of {place} lie in one stack, which LoRA does not wrap",
                    "name other targets, such as query, key, value, output",
                )
        found |= dict.fromkeys(_named(model, target, nn.Linear | nn.Embedding))
    return list(found)


def find_norms(model: Model) -> list[str]:
    """Places of all norms that have weights."""
    kinds = RMSNorm | nn.LayerNorm
    return [
        place
        for place, module in model.named_modules()
        if isinstance(module, kinds) and any(True for _ in module.parameters())
    ]


def _named(model: nn.Module, name: str, kinds: type | object) -> list[str]:
    """Places of the modules of these kinds that are called `name`, or end with it."""
    known = [place for place, module in model.named_modules() if place and isinstance(module, kinds)]  # type: ignore[arg-type]
    found = [place for place in known if place == name or place.endswith(f".{name}")]
    if not found:
        names = sorted({place.rpartition(".")[2] for place in known})
        close = closest_match(name, names)
        meant = f"did you mean {close!r}? " if close else ""
        listed = [one for one in names if not one.isdigit()]
        raise UserError(
            f"no layer of this model is called {name!r}", f"{meant}there are: {', '.join(listed)}"
        )
    return found


def _decoder(model: Model, what: str, n_prompt_tokens: int) -> Decoder:
    """The trunk, where something can stand before its tokens."""
    assert not is_adapted(model)
    if not isinstance(model, LanguageModel):
        raise UserError(
            f"{what} is for decoders that predict the next token, and this is a {type(model).__name__}",
            "use --method lora",
        )
    config = model.config
    for name, plain in (("attention", "softmax"), ("sliding_window", None)):
        if getattr(config, name) != plain:
            raise UserError(
                f"{what}: {name} = {getattr(config, name)!r}, and a prefix must be seen by every token",
                "use --method lora",
            )
    if config.positions == "relative":
        raise UserError(f"{what}: positions = 'relative', and a prefix has none", "use --method lora")
    if n_prompt_tokens > config.max_seq_len - 2:
        raise UserError(
            f"n_prompt_tokens = {n_prompt_tokens} leaves no room in the context window of {config.max_seq_len}",
            f"choose {config.max_seq_len // 4} at most",
        )
    return model.trunk


def _vectors(trunk: Decoder, n: int, token_ids: Sequence[int] | None) -> Tensor:
    """(n, d_model) embeddings of real tokens."""
    weight = trunk.token_embedding.weight.detach()
    if not token_ids:
        chosen = torch.randint(len(weight), (n,))
    else:
        chosen = torch.tensor([token_ids[i % len(token_ids)] for i in range(n)])
    return weight[chosen.to(weight.device)]
