"""What encoder-decoders are held to, besides `conformance`: packed pairs, and one token a step."""

import torch

from parakit.inference.generation.kv_cache import KVCache
from parakit.model.layers.masks import cross_document_mask, document_mask
from tests.checkpoints.conformance import assert_close


@torch.no_grad()
def assert_packed(model, reference, sources: torch.Tensor, targets: torch.Tensor, sizes) -> None:
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
def cached_logits(model, sources, targets, source_mask) -> torch.Tensor:
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
