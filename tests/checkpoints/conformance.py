"""What every architecture's folders are held to, against transformers as the independent implementation.

Models are tiny and random, with every parameter away from the values that fresh models have (zeros, ones), so that
a tensor in the wrong place shows.
"""

import json
from pathlib import Path

import torch

from parakit.checkpoints import load_model, parameter_counts, save_model
from parakit.common import Lineage
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import generate_ids
from parakit.inference.generation.kv_cache import KVCache
from parakit.model.layers.masks import cross_document_mask, document_mask

TOLERANCE = 1e-4
# In bfloat16 a token's logits may be off from the float32 ones by this share of their spread, the mean over the
# vocabulary and the median over tokens (a token may go to another expert, which no rounding rule can forbid), and
# by half as much again as transformers' own.
BF16_TOLERANCE = 0.02


def reference_model(model_class, config, seed: int = 3, spread: float = 0.2):
    """A transformers model with random weights everywhere."""
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * spread)
        for name, buffer in model.named_buffers():
            if name.endswith("final_logits_bias"):
                buffer.add_(torch.randn_like(buffer) * spread)
    return model


def saved(model, path: Path, shard: str = "1GB") -> Path:
    """The folder that transformers writes."""
    model.save_pretrained(path, max_shard_size=shard)
    return path


def random_ids(vocab_size: int, *shape: int, seed: int = 1) -> torch.Tensor:
    """Token ids, without 0, 1 and 2, which configs like to take for special tokens."""
    return torch.randint(3, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def padding(lengths: list[int], side: str) -> torch.Tensor:
    """(B, T) bool, True = a real token, T the longest length."""
    places = torch.arange(max(lengths))
    mask = torch.stack([places < length for length in lengths])
    return mask if side == "right" else mask.flip(1)


def assert_close(actual: torch.Tensor, reference: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    """Equal shapes, finite, and nowhere further apart than `tolerance`; logits that are all alike are no test."""
    assert actual.shape == reference.shape
    assert torch.isfinite(actual).all()
    assert reference.std() > 0.01, "the reference says nothing"
    difference = (actual - reference).abs().max().item()
    assert difference <= tolerance, f"{difference} apart"


def assert_bf16_close(actual: torch.Tensor, reference: torch.Tensor, exact: torch.Tensor) -> None:
    """Values (..., V) in bfloat16, actual and transformers', against those of the same weights in float32."""
    assert actual.dtype == reference.dtype == torch.bfloat16
    assert exact.dtype == torch.float32
    mine, other = ((values.float() - exact).abs().mean(-1).median().item() for values in (actual, reference))
    assert mine <= BF16_TOLERANCE * exact.std().item()
    assert mine <= 1.5 * other


@torch.no_grad()
def assert_decoder_conforms(model, reference, n_tokens: int = 24) -> None:
    """Logits of a causal language model: plain, padded on either side, packed, and token by token through a
    cache.
    """
    vocab = model.config.vocab_size
    ids = random_ids(vocab, 3, n_tokens)
    assert_close(model(ids), reference(ids).logits)
    for side in ("right", "left"):
        mask = padding([n_tokens, n_tokens // 2, 1], side)
        position_ids = (mask.cumsum(1) - 1).clamp(min=0)
        got = model(ids, attention_mask=mask, position_ids=position_ids)
        wanted = reference(ids, attention_mask=mask.long(), position_ids=position_ids).logits
        assert_close(got[mask], wanted[mask])
    assert_packed(model, reference, ids)
    assert_close(cached_logits(model, ids), reference(ids).logits)


def assert_packed(model, reference, ids: torch.Tensor) -> None:
    """Three texts in one row of actual, under a mask pair by pair, are three rows of reference."""
    n = ids.shape[1]
    lengths = (n // 2, n // 3, n - n // 2 - n // 3)
    documents = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    position_ids = torch.cat([torch.arange(length) for length in lengths])[None]
    same = documents[:, None] == documents[None]
    got = model(ids[:1], attention_mask=same.tril()[None, None], position_ids=position_ids)[0]
    texts = ids[0].split(list(lengths))
    assert_close(got, torch.cat([reference(text[None]).logits[0] for text in texts]))


def cached_logits(model, ids: torch.Tensor) -> torch.Tensor:
    """Logits (B, T, V) from a prompt of half the tokens and then one token a step."""
    cache, half = KVCache(model.config, *ids.shape), ids.shape[1] // 2
    found, first = [], 0
    for step in (half, *[1] * (ids.shape[1] - half)):
        found.append(
            model(
                ids[:, first : first + step],
                position_ids=cache.position_ids(step),
                attention_mask=cache.attention_mask(step),
                cache=cache,
            )
        )
        first += step
    return torch.cat(found, 1)


@torch.no_grad()
def assert_packed_pairs(model, reference, sources: torch.Tensor, targets: torch.Tensor, sizes) -> None:
    """Three pairs in one row of actual, whose sources and targets have these `sizes`, are three rows of reference."""
    (of_source, from_start), (of_target, to_end) = (
        (
            torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None],
            torch.cat([torch.arange(length) for length in lengths])[None],
        )
        for lengths in sizes
    )
    read = model.encode(
        sources, attention_mask=document_mask(of_source, causal=False), position_ids=from_start
    )
    hidden = model.hidden(
        targets,
        source=read,
        source_mask=cross_document_mask(of_target, of_source),
        attention_mask=document_mask(of_target),
        position_ids=to_end,
    )
    pairs = zip(sources.split(sizes[0], 1), targets.split(sizes[1], 1), strict=True)
    wanted = [reference(input_ids=source, decoder_input_ids=target).logits for source, target in pairs]
    assert_close(model.logits(hidden), torch.cat(wanted, 1))


@torch.no_grad()
def cached_pair_logits(model, sources, targets, source_mask) -> torch.Tensor:
    """Logits (B, T, V) from half of the target and then one token a step; the source is read once."""
    cache, half = KVCache(model.config.decoder, *targets.shape), targets.shape[1] // 2
    source = model.encode(sources, attention_mask=source_mask)
    found, first = [], 0
    for step in (half, *[1] * (targets.shape[1] - half)):
        hidden = model.hidden(
            targets[:, first : first + step],
            position_ids=cache.position_ids(step),
            attention_mask=cache.attention_mask(step),
            cache=cache,
            source=source,
            source_mask=source_mask,
        )
        found.append(model.logits(hidden))
        first, source = first + step, None
    return torch.cat(found, 1)


@torch.no_grad()
def assert_same_greedy_tokens(model, reference, prompt_len: int = 7, n_new: int = 64) -> None:
    """The same tokens as transformers' `generate`, for each of three prompts."""
    prompts = random_ids(model.config.vocab_size, 3, prompt_len, seed=8)
    got = generate_ids(model, prompts.tolist(), SamplingConfig(temperature=0.0, max_new_tokens=n_new))
    reference.generation_config.eos_token_id = None
    wanted = reference.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=n_new,
        do_sample=False,
        pad_token_id=0,
    )
    assert got == wanted[:, prompt_len:].tolist()
    assert len(got[0]) == n_new


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder, from one file or from shards, in memory of their own."""
    from safetensors.torch import load

    found: dict[str, torch.Tensor] = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        found |= load(file.read_bytes())
    return found


def assert_round_trip(reference, folder: Path, target: Path, call, written_as: str | None = None) -> None:
    """folder -> actual -> folder: byte-equal tensors of the same names, the counts of the weights on disk, and
    transformers loads it into the same class (or the one `written_as`, which computes the same) with the same
    answers, which `call(model)` asks for.
    """
    import transformers

    model, _ = load_model(folder)
    save_model(model, None, target, Lineage("model"))
    before, after = tensors_of(folder), tensors_of(target)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert tensor.shape == after[name].shape
        assert tensor.numpy().tobytes() == after[name].numpy().tobytes(), name
    counts = parameter_counts(folder)
    assert counts["total"] == sum(p.numel() for p in model.parameters())
    assert counts["total"] == sum(n for name, n in counts.items() if name != "total")
    (class_name,) = json.loads((target / "config.json").read_text())["architectures"]
    assert class_name == (written_as or type(reference).__name__)
    again, report = getattr(transformers, class_name).from_pretrained(target, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    with torch.no_grad():
        # not bit by bit: where a tensor lies in memory may choose another kernel
        assert (call(again.eval()) - call(reference)).abs().max() <= 1e-5
