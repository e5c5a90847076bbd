"""`parakit inspect attention`: what each head attends to, as a heat map, as JSON, or as a page to point at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from parakit.cli.inspecting.options import InspectTextConfig, new_page, opened_model, text_of
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import OVERWRITES, Needs, refuse_inert
from parakit.common.files import JsonObject
from parakit.common.progress import log

if TYPE_CHECKING:
    import numpy as np

    from parakit.inspection.attention import AttentionMaps

AttentionKind = Literal["weights", "norms", "rollout", "flow"]
THROUGH_LAYERS = ("rollout", "flow")


class InspectAttentionCommandConfig(InspectTextConfig):
    """What each head of a model attends to in a text. Without --layer and --head: the mean of all, and --output writes a
    page that shows every one.
    """

    layer: int | None = Field(default=None, ge=0, description="Only this layer.")
    head: int | None = Field(default=None, ge=0, description="Only this head.")
    kind: AttentionKind = Field(
        default="weights",
        description="weights: attention weights; norms: weights times the length of what they carry; rollout: through all"
        " layers down to the tokens, as products; flow: the same for one token, as the maximum flow.",
    )
    token: int = Field(
        default=-1, description="With --kind flow: the number of the token. Default: the last."
    )
    output: str | None = Field(
        default=None, description="Write a page (.html) to point at, with every layer and head in it."
    )
    overwrite: bool = Field(default=False, description="Replace an existing page.")


_NEEDS = (
    OVERWRITES,
    Needs(("token",), lambda command: command.kind == "flow", "all tokens are shown", "take --kind flow"),
    Needs(
        ("layer", "head", "output"),
        lambda command: command.kind not in THROUGH_LAYERS,
        "rollout and flow go through all layers and heads",
        "take --kind weights",
    ),
)


def main(argv: list[str]) -> int:
    """Run `parakit inspect attention` with these arguments."""
    command = parse_command(InspectAttentionCommandConfig, argv, "parakit inspect attention")
    refuse_inert(command, _NEEDS)
    page = new_page(command.output, command.overwrite)
    text = text_of(command)
    from parakit.inspection.attention import attention_maps

    with opened_model(command) as model:
        maps = attention_maps(
            model,
            text,
            layer=command.layer,
            head=command.head,
            kind="norms" if command.kind == "norms" else "weights",
            target=command.target,
        )
        specials = tuple(model.tokenizer.special_tokens)
    if page is not None:
        from parakit.reports.inspection.attention_page import write_attention_page

        name = "/".join(Path(command.model).resolve().parts[-2:])
        write_attention_page(maps, page, model=name, specials=specials, first_head=command.head or 0)
        log(f"page: {page}")
    shown = _shown(maps, command)
    if command.as_json:
        print(json.dumps(_as_json(maps, command, shown), ensure_ascii=False))
    elif page is None:
        _show(maps, command, shown)
    return 0


class Shown(NamedTuple):
    """A matrix with the tokens of its rows and columns."""

    name: str
    matrix: np.ndarray
    rows: Sequence[str]
    columns: Sequence[str]


def _shown(maps: AttentionMaps, command: InspectAttentionCommandConfig) -> list[Shown]:
    """What the terminal shows: the chosen head or layer, else the mean of all by kind of attention."""
    import numpy as np

    from parakit.inspection.attention import flow, rollout

    tokens = maps.given.tokens
    if command.kind == "rollout":
        return [Shown("rollout", rollout(maps)[-1], tokens, tokens)]
    if command.kind == "flow":
        return [Shown("flow", flow(maps, command.token)[None], [tokens[command.token]], tokens)]
    kinds: dict[str, list[str]] = {}
    for name in maps.maps:
        stack, _, rest = name.partition("blocks.")
        kinds.setdefault(name if command.layer is not None else stack + rest.partition(".")[2], []).append(
            name
        )
    return [
        Shown(
            kind,
            np.mean([maps.maps[name].mean(0) for name in names], 0),
            maps.queries(names[0]),
            maps.keys(names[0]),
        )
        for kind, names in kinds.items()
    ]


def _as_json(maps: AttentionMaps, command: InspectAttentionCommandConfig, shown: list[Shown]) -> JsonObject:
    """Tokens and matrices: of every head, or of rollout and flow what is shown."""
    import numpy as np

    found: JsonObject = {"kind": command.kind, "tokens": maps.given.tokens, "token_ids": maps.given.token_ids}
    if maps.given.source_ids:
        found |= {"source_tokens": maps.given.source_tokens, "source_ids": maps.given.source_ids}
    through = {one.name: one.matrix for one in shown}
    matrices = through if command.kind in THROUGH_LAYERS else maps.maps
    rounded = {name: np.round(matrix, 6).tolist() for name, matrix in matrices.items()}
    return found | {"maps": rounded, "without_maps": maps.without_maps, "first_head": command.head or 0}


def _show(maps: AttentionMaps, command: InspectAttentionCommandConfig, shown: list[Shown]) -> None:
    from parakit.cli.inspecting.heat_map import show_matrix

    for one in shown:
        show_matrix(_title(one.name, command), one.matrix, one.rows, one.columns)
    for name, reason in maps.without_maps.items():
        print(f"{name} has no map: {reason}")
    if command.layer is None and command.kind not in THROUGH_LAYERS:
        print("Choose --layer and --head, or write a page to point at: --output attention.html")


def _title(name: str, command: InspectAttentionCommandConfig) -> str:
    what = {
        "weights": "attention in percent",
        "norms": "weights times the length of what they carry, in percent of the greatest",
        "rollout": "rollout through all layers, in percent",
        "flow": "maximum flow through all layers, in percent of the greatest",
    }[command.kind]
    if command.kind in THROUGH_LAYERS:
        return what
    heads = f"head {command.head}" if command.head is not None else "mean of the heads"
    return f"{name}, {heads}{'' if command.layer is not None else ' of all layers'}: {what}"
