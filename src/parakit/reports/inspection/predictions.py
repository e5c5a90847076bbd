"""The pages of `parakit inspect lens`, `next` and `experts`: what a model computes of one text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parakit.common.files import JsonObject
from parakit.common.formatting import percent
from parakit.inspection.expert_routing import ExpertLayer
from parakit.inspection.lenses.logit_lens import Lens
from parakit.inspection.next_tokens import NextTokens, SamplingTable
from parakit.reports.inspection.page import MAX_CELLS, bar_rows, render, shade, visible

SURPRISE = 10.0  # nats: the darkest shade of a token
N_COLOURS = 5
MAX_ROWS = 1_000  # positions that are listed with candidates
MAX_EXPERTS = 64  # bars of a layer's load


def lens_page(found: Lens, model: str, compared: Sequence[float] | None = None) -> str:
    """The page of a lens. `compared`: the mean KL of the plain logit lens by place, where `found` is a tuned one."""
    n_places, n_all = found.kl.shape
    n = min(n_all, MAX_CELLS // n_places)
    kind = "tuned lens" if found.tuned else "logit lens"
    bars = [
        (
            place,
            float(value),
            f"{value:.3f}" if compared is None else f"{value:.3f} / {compared[row]:.3f}",
            "",
        )
        for row, (place, value) in enumerate(zip(found.places, found.mean_kl, strict=True))
    ]
    others = None if compared is None else dict(zip(found.places, map(float, compared), strict=True))
    rows = [
        {"place": found.places[place], "cells": [_lens_cell(found, place, t) for t in range(n)]}
        for place in reversed(range(n_places))
    ]
    lede = (
        "What the model would predict if it stopped after each layer: the residual stream passes through"
        f"{' a trained translator,' if found.tuned else ''} the final norm and the output matrix."
    )
    return render(
        "inspect_lens.html",
        "lens",
        kind.capitalize(),
        model,
        lede,
        kl=bar_rows(bars, others, longest=max((value for _, value, _, _ in bars[1:]), default=0.0)),
        rows=rows,
        tokens=[visible(token) for token in found.tokens[:n]],
        corner="layer",
        cut="" if n == n_all else f" The first {n} of {n_all} positions are shown.",
        method="With two bars the upper one is the tuned lens, the lower one the logit lens."
        if others
        else "",
    )


def _lens_cell(found: Lens, place: int, t: int) -> JsonObject:
    probabilities, tokens = found.top_probabilities[place, t], found.top_tokens[place][t]
    n = 5 if found.kl.size <= MAX_CELLS // 4 else 3
    lines = [
        f"{visible(token)} {percent(float(p))}"
        for token, p in zip(tokens[:n], probabilities[:n].tolist(), strict=True)
    ]
    title = "\n".join([*lines, f"KL {found.kl[place, t]:.2f}"])
    return {"token": visible(tokens[0]), "heat": shade(float(probabilities[0])), "title": title}


def next_page(found: NextTokens, table: SamplingTable, model: str) -> str:
    """The page of next tokens."""
    n = min(len(found.tokens), MAX_ROWS)
    where = f"at position {table.position + 1} of {len(found.tokens)}, behind “{found.tokens[table.position].strip()}”"
    if found.masked:
        where = f"at position {table.position + 1} of {len(found.tokens)}, which is masked"
    settings = [
        {
            "temperature": f"{temperature:g}",
            "top_p": f"{top_p:g}",
            "cells": [
                {"heat": shade(p), "text": "" if p == 0 else percent(p)}
                for p in table.probabilities[row].tolist()
            ],
            "n_kept": f"{int(table.n_kept[row]):,}",
            "entropy": f"{table.entropy[row]:.2f}",
        }
        for row, (temperature, top_p) in enumerate(table.settings)
    ]
    lede = (
        "Each token of the text is masked in turn, and the model fills it."
        if found.masked
        else "What the model expects behind every token of the text, and what sampling makes of it."
    )
    return render(
        "inspect_next.html",
        "next",
        "Next tokens",
        model,
        lede,
        where=where,
        reading=_reading(found),
        table={"tokens": [visible(token) for token in table.tokens], "rows": settings},
        positions=[_position(found, t) for t in range(n)],
        corner="masked" if found.masked else "behind",
        follows="" if found.masked else "comes",
    )


def _reading(found: NextTokens) -> list[JsonObject]:
    """The text, token by token, shaded by the surprise of each."""
    rows = range(len(found.tokens))
    first = [] if found.masked else [{"text": found.tokens[0], "heat": 0, "title": "nothing comes before it"}]
    shown: list[JsonObject] = [*first]
    for t in rows:
        if found.actual[t] is None:
            continue
        p, rank = float(found.actual_probabilities[t]), int(found.actual_ranks[t])
        surprise = -np.log(max(p, 1e-12))
        best = ", ".join(
            f"{visible(token)} {percent(float(q))}"
            for token, q in zip(found.top_tokens[t][:5], found.top_probabilities[t][:5].tolist(), strict=True)
        )
        title = f"{percent(p)}, rank {rank:,}\nlikeliest: {best}"
        shown.append({"text": found.actual[t], "heat": shade(float(surprise) / SURPRISE), "title": title})
    return shown


def _position(found: NextTokens, t: int) -> JsonObject:
    cells = [
        {"heat": shade(float(p)), "text": f"{visible(token)} {percent(float(p))}"}
        for token, p in zip(found.top_tokens[t][:6], found.top_probabilities[t][:6].tolist(), strict=True)
    ]
    actual = found.actual[t]
    return {
        "token": visible(found.tokens[t]),
        "actual": "" if actual is None or found.masked else visible(actual),
        "cells": cells,
        "entropy": f"{found.entropy[t]:.2f}",
    }


def experts_page(found: Sequence[ExpertLayer], model: str) -> str:
    """The page of expert routing."""
    n = max(1, min(len(found[0].tokens), MAX_CELLS // max(1, len(found))))
    layers = [_expert_layer(layer, n) for layer in found]
    k, e = found[0].chosen.shape[1], found[0].n_experts
    return render(
        "inspect_experts.html",
        "experts",
        "Experts by token",
        model,
        f"A router sends each token to {k} of {e} experts in each of {len(found)} layers.",
        layers=layers,
        cut=""
        if n >= len(found[0].tokens)
        else f" The first {n} of {len(found[0].tokens)} tokens are shown.",
        method="The colour of a token is its likeliest expert's number modulo five.",
    )


def _expert_layer(layer: ExpertLayer, n: int) -> JsonObject:
    tokens = []
    for t in range(min(n, len(layer.tokens))):
        pairs = zip(layer.chosen[t].tolist(), layer.weights[t].tolist(), strict=True)
        title = ", ".join(f"expert {expert}: {weight:.2f}" for expert, weight in pairs)
        colour = int(layer.chosen[t, 0]) % N_COLOURS
        tokens.append({"text": layer.tokens[t], "colour": colour, "title": title})
    load = [(f"expert {e}", float(share), percent(float(share)), "") for e, share in enumerate(layer.load)]
    load = sorted(load, key=lambda row: -row[1])[:MAX_EXPERTS] if len(load) > MAX_EXPERTS else load
    even = percent(1 / layer.n_experts)
    note = f"Balance {layer.balance:.2f} (1 is even); an even load is {even} for each expert."
    return {"name": layer.name, "tokens": tokens, "load": bar_rows(load), "note": note}
