"""A page to point at: attention of every head for one text, in one HTML file without a network.

Its script is the page's own: the security policy names the script's digest, so nothing else runs, and tokens, which may
spell anything, pass through the template's autoescape and are shown as text. Weights are rounded to 1 / 255 of the greatest
value; of long texts each row keeps as many of its largest weights as fit under `MAX_DATA_BYTES`, and the page says how many.

Shapes: L layers, H heads, T queries, S keys, K weights that a row keeps.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_text_atomic
from parakit.inspection.attention import AttentionMaps
from parakit.reports.rendering import page_template

MAX_DATA_BYTES = 4_000_000
SINK_SHARE = 0.4  # of the last token's attention to the first one, from which on the page opens without it
TITLES = {
    "attention": "self-attention",
    "encoder.attention": "the source to itself",
    "decoder.attention": "the target to itself",
    "decoder.cross_attention": "the target to the source",
}


@dataclass(frozen=True)
class Group:
    """The maps that a page shows together: one kind of attention of one stack."""

    kind: str
    layers: tuple[int, ...]
    maps: np.ndarray  # (L, H, T, S)
    queries: tuple[str, ...]
    keys: tuple[str, ...]


def attention_groups(maps: AttentionMaps) -> list[Group]:
    """The maps by stack and kind."""
    found: dict[str, list[str]] = {}
    for name in maps.maps:
        stack, _, rest = name.partition("blocks.")
        found.setdefault(stack + rest.partition(".")[2], []).append(name)
    return [
        Group(
            kind,
            tuple(int(name.partition("blocks.")[2].partition(".")[0]) for name in names),
            np.stack([maps.maps[name] for name in names]),
            maps.queries(names[0]),
            maps.keys(names[0]),
        )
        for kind, names in found.items()
    ]


def write_attention_page(
    maps: AttentionMaps, path: str | Path, *, model: str, specials: tuple[str, ...] = (), first_head: int = 0
) -> Path:
    """Write the page to `path`, whole or not at all. `model` is its heading; `specials`: special tokens, which it shows
    smaller; `first_head`: the number of the maps' first head. Raises `UserError` for a text whose page would be too large.
    """
    path = Path(path)
    groups = attention_groups(maps)
    template = page_template("attention.html")
    script = "".join(page_template(name).render() for name in ("attention.js", "attention_start.js"))
    page = attention_data(maps, specials, first_head)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = template.render(
        page={
            "model": model,
            "shape": _shape(groups),
            "sees": "what each head attends to"
            if maps.kind == "weights"
            else "what each head brings from where",
            "note": _note(maps, page["groups"]),
        },
        data=json.dumps(page, ensure_ascii=False),
        script_hash=f"sha256-{digest}",
    )
    write_text_atomic(path, text)
    return path


def attention_data(maps: AttentionMaps, specials: tuple[str, ...] = (), first_head: int = 0) -> JsonObject:
    """What the view's script draws: the maps by kind, packed, and what it opens with. Errors as `write_attention_page`."""
    groups = attention_groups(maps)
    return {"groups": _packed(groups, maps.kind, specials, first_head), "start": _start(groups)}


def _packed(groups: list[Group], kind: str, specials: tuple[str, ...], first_head: int) -> list[JsonObject]:
    """The groups with as many weights of each row as fit together."""
    n_rows = sum(group.maps[..., 0].size for group in groups)
    longest = max(len(group.keys) for group in groups)
    n_kept = max(1, min(longest, MAX_DATA_BYTES // n_rows))  # about a byte each when compressed
    ranked = [_largest(group, min(n_kept, len(group.keys)), _scale(group, kind)) for group in groups]
    while True:
        packed = [_pack(*(one if one[0].shape[-1] <= n_kept else _cut(one, n_kept))) for one in ranked]
        if (n_bytes := sum(map(len, packed))) <= MAX_DATA_BYTES:
            break
        if n_kept == 1:
            raise UserError(
                f"{n_rows:,} rows of attention do not fit on a page under {MAX_DATA_BYTES / 1e6:g} MB",
                "take a shorter text, or one layer with --layer",
            )
        n_kept = max(1, min(n_kept - 1, n_kept * MAX_DATA_BYTES // n_bytes))
    return [
        {
            "title": TITLES.get(group.kind, group.kind),
            "cross": group.kind.endswith("cross_attention"),
            "layers": group.layers,
            "heads": [first_head + head for head in range(group.maps.shape[1])],
            "n_heads": group.maps.shape[1],
            "queries": group.queries,
            "keys": group.keys,
            "n_prefix": 0 if group.kind.endswith("cross_attention") else len(group.keys) - len(group.queries),
            "query_title": "target",
            "key_title": "source",
            "unit": "share" if kind == "weights" else "length",
            "scale": _scale(group, kind),
            "sink": kind == "weights" and bool((group.maps.sum(-1) < 0.98).any()),
            "specials": sorted({*specials} & {*group.queries, *group.keys}),
            "n_kept": min(n_kept, len(group.keys)),
            "data": data,
        }
        for group, data in zip(groups, packed, strict=True)
    ]


def _scale(group: Group, kind: str) -> float:
    return 1.0 if kind == "weights" else max(float(group.maps.max()), 1e-9)


def _largest(group: Group, n_kept: int, scale: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Of each row the largest weights in 255ths of `scale`, (L, H, T, n_kept) uint8, the largest first, and their keys, uint16;
    where all are kept, in the order of the keys, and None.
    """
    whole = np.rint(group.maps * np.float32(255 / scale)).clip(0, 255).astype(np.uint8)
    if n_kept == whole.shape[-1]:
        return whole, None
    keys = np.argpartition(255 - whole, n_kept - 1, axis=-1)[..., :n_kept]
    return _by_weight(np.take_along_axis(whole, keys, -1), keys.astype(np.uint16))


def _by_weight(weights: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(255 - weights, axis=-1, kind="stable")
    return np.take_along_axis(weights, order, -1), np.take_along_axis(keys, order, -1)


def _cut(ranked: tuple[np.ndarray, np.ndarray | None], n_kept: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest of what is kept already."""
    weights, keys = ranked
    if keys is None:
        weights, keys = _by_weight(
            weights, np.broadcast_to(np.arange(weights.shape[-1], dtype=np.uint16), weights.shape)
        )
    return weights[..., :n_kept], keys[..., :n_kept]


def _pack(weights: np.ndarray, keys: np.ndarray | None) -> str:
    """Weights as bytes, then where rows keep a part of their weights the keys of them as 16-bit numbers; deflated, base64."""
    if keys is None:
        return base64.b64encode(zlib.compress(weights.tobytes(), 6)).decode()
    order = np.argsort(keys, axis=-1)  # which compresses
    weights, keys = np.take_along_axis(weights, order, -1), np.take_along_axis(keys, order, -1)
    keys = np.where(weights == 0, 0, keys)  # a weight of nothing may stand anywhere
    both = weights.tobytes() + keys.astype("<u2").tobytes()
    return base64.b64encode(zlib.compress(both, 6)).decode()


def _start(groups: list[Group]) -> JsonObject:
    """What the page opens with: the last group (a target's view of its source), its middle layer, its last whole word."""
    number = len(groups) - 1
    group = groups[number]
    is_self = not group.kind.endswith("cross_attention")
    n_prefix = len(group.keys) - len(group.queries)
    last = group.maps[..., -1, :]
    in_sink = is_self and float(last[..., n_prefix].sum()) > SINK_SHARE * float(last.sum())
    words = [
        i for i, token in enumerate(group.queries) if any(map(str.isalnum, token)) and token[:1] not in "[<"
    ]
    return {
        "group": number,
        "layer": len(group.layers) // 2,
        "head": -1 if group.maps.shape[1] > 1 else 0,
        "skip": in_sink,
        "token": words[-1] if words else len(group.queries) - 1,
    }


def _shape(groups: list[Group]) -> str:
    parts = {f"{len(group.layers)} layers × {group.maps.shape[1]} heads" for group in groups}
    n_tokens = {len(group.queries) for group in groups} | {len(group.keys) for group in groups}
    return f"{', '.join(sorted(parts))} · {max(n_tokens)} tokens"


def _note(maps: AttentionMaps, packed: list[JsonObject]) -> str:
    kept = [one for one in packed if one["n_kept"] < len(one["keys"])]
    what = "Weights" if maps.kind == "weights" else "Lengths of weighted values"
    lines = [f"{what} are computed from the model's queries and keys, and rounded to 1/255 of the greatest."]
    if kept:
        lines.append(f"Each row keeps its {min(one['n_kept'] for one in kept)} largest.")
    lines += [f"{name} has no map: {reason}." for name, reason in list(maps.without_maps.items())[:3]]
    return " ".join([*lines, "Made by Parakit; the page loads nothing."])
