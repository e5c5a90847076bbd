"""`parakit inspect heads`: what kind each head is, what a pair or a token owes to each, and where the difference is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from parakit.cli.inspecting.options import InspectConfig, opened_model
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import progress
from parakit.inspection.names import AblationMethod

if TYPE_CHECKING:
    import numpy as np

    from parakit.inference.loaded_model import Model
    from parakit.inspection.pairs import ScoredPair


class InspectHeadsCommandConfig(InspectConfig):
    """The heads of a model. Without a text: how much each attends to the token before, to the earlier occurrence of a token,
    and to what followed it (induction), on repeated random tokens.
    """

    pair: tuple[str, ...] = Field(
        default=(),
        description="Two texts of which the first is right: what ablating each head does to their log-probability ratio.",
    )
    source: str | None = Field(
        default=None, description="Of an encoder-decoder: the source, whose targets the pair are."
    )
    method: AblationMethod = Field(
        default="zero", description="With --pair: what takes a head's place, zeros or its mean."
    )
    reference: str | None = Field(
        default=None,
        description="With --method mean: a file of texts, one a line, for the mean. Default: the pair itself.",
    )
    patch_from: tuple[str, ...] = Field(
        default=(),
        description="With --pair: two texts with the same ends behind another beginning of equal length. What the pair's ratio"
        " becomes with their residual stream, by layer and token.",
    )
    text: str | None = Field(
        default=None, description="A text, whose next token's logit is split into the shares of all heads."
    )
    next_token: str | None = Field(
        default=None, description="With --text: the token, as text. Default: the likeliest."
    )
    against: str | None = Field(
        default=None, description="With --text: a second token, whose logit is subtracted."
    )
    n_tokens: int = Field(
        default=64, ge=2, description="Random tokens of a sequence, before they are repeated."
    )
    n_sequences: int = Field(default=8, ge=1, description="Sequences of random tokens.")
    seed: int = Field(default=0, description="Seed of the random tokens.")


_NEEDS = (
    Needs(
        ("source", "method", "patch_from"), lambda command: command.pair, "there is no pair", "add --pair A B"
    ),
    Needs(
        ("method",),
        lambda command: not command.patch_from,
        "nothing is ablated with --patch-from",
        "remove that",
    ),
    Needs(
        ("reference",),
        lambda command: command.pair and command.method == "mean" and not command.patch_from,
        "no mean is taken",
        "add --pair A B --method mean",
    ),
    Needs(
        ("next_token", "against"),
        lambda command: command.text is not None,
        "no logit is split",
        'add --text "..."',
    ),
    Needs(
        ("n_tokens", "n_sequences", "seed"),
        lambda command: not command.pair and command.text is None,
        "they are of random tokens",
        "leave out --pair and --text",
    ),
)


def main(argv: list[str]) -> int:
    """Run `parakit inspect heads` with these arguments."""
    command = parse_command(InspectHeadsCommandConfig, argv, "parakit inspect heads")
    if command.pair and command.text is not None:
        raise UserError("both --pair and --text were given", "give one of them")
    for name, texts in (("pair", command.pair), ("patch-from", command.patch_from)):
        if texts and len(texts) != 2:
            raise UserError(f"--{name} has {len(texts)} texts", f'give two: --{name} "right" "wrong"')
    refuse_inert(command, _NEEDS)
    reference = read_lines(command.reference)
    with opened_model(command) as model:
        if command.patch_from:
            found = _patching(model, command)
        elif command.pair:
            found = _effects(model, command, reference)
        elif command.text is not None:
            found = _shares(model, command, command.text)
        else:
            found = _scores(model, command)
    if command.as_json:
        print(json.dumps(found, ensure_ascii=False))
    return 0


def read_lines(path: str | None) -> list[str]:
    """The texts of a file, one a line; none without a file. Raises `UserError` where there is none in it."""
    if path is None:
        return []
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file", "name a file with one text per line")
    lines = [line for line in Path(path).read_text("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path}: has no text", "write one text per line")
    return lines


def counted(name: str, total: int, run: Callable[[Callable[[int], None]], Any]) -> Any:
    """The result of `run`, with progress: it is given a function that takes the number of finished units."""
    with progress(name, total, "ablations") as bar:
        return run(bar.advance)


def pair_of(model: Model, texts: tuple[str, ...], source: str | None) -> ScoredPair:
    """Two texts of the command line as a pair."""
    from parakit.inspection.pairs import encode_pair

    return encode_pair(model, texts[0], texts[1], source)


def pair_summary(model: Model, pair: ScoredPair) -> JsonObject:
    """The pair as the model reads it, and its value."""
    import torch

    from parakit.inspection.pairs import pair_values

    with torch.no_grad():
        value = float(pair_values(model.network, pair)[0])
    sides = {"good": pair.good.given.tokens, "bad": pair.bad.given.tokens}
    return {"tokens": sides, "deciding": pair.deciding, "value": value}


def _scores(model: Model, command: InspectHeadsCommandConfig) -> JsonObject:
    from parakit.inspection.head_scores import SCORES, head_scores

    with progress("random tokens", command.n_sequences, "sequences") as bar:
        found = head_scores(
            model,
            n_tokens=command.n_tokens,
            n_sequences=command.n_sequences,
            seed=command.seed,
            on_progress=bar.advance,
        )
    if not command.as_json:
        from parakit.cli.inspecting.heat_map import show_grid

        for kind, scores in found.scores.items():
            show_grid(f"{kind}: attention {SCORES[kind]}", scores)
            highest = ", ".join(f"{name} head {head} {value:.2f}" for name, head, value in found.best(kind))
            print(f"  highest: {highest}\n")
    kinds = {
        kind: {name: values.tolist() for name, values in scores.items()}
        for kind, scores in found.scores.items()
    }
    best = {kind: [list(one) for one in found.best(kind)] for kind in found.scores}
    return {"scores": kinds, "best": best, "n_tokens": found.n_tokens, "n_sequences": found.n_sequences}


def _effects(model: Model, command: InspectHeadsCommandConfig, reference: list[str]) -> JsonObject:
    from parakit.inspection.ablation import head_effects
    from parakit.inspection.sites import layers

    pair = pair_of(model, command.pair, command.source)
    summary = pair_summary(model, pair)
    total = sum(one.n_heads * len(one.attentions) for one in layers(model.network))
    found = counted(
        "ablating heads",
        total,
        lambda update: head_effects(
            model, pair, method=command.method, reference=reference, on_progress=update
        ),
    )
    if not command.as_json:
        from parakit.cli.inspecting.heat_map import show_grid

        show_value(summary)
        rows = {name.removesuffix(".heads"): values for name, values in found.items()}
        show_grid("what ablating each head alone adds to it (negative: the head helps)", rows)
    return summary | {"effects": {name: values.tolist() for name, values in found.items()}}


def show_value(summary: JsonObject) -> None:
    """A pair's value in a line."""
    print(f"value of the pair: {summary['value']:+.3f} (positive: the first text is preferred)")


def _patching(model: Model, command: InspectHeadsCommandConfig) -> JsonObject:
    from parakit.inspection.ablation import residual_patching

    pair, other = (pair_of(model, texts, command.source) for texts in (command.pair, command.patch_from))
    summary, of_other = pair_summary(model, pair), pair_summary(model, other)
    found = residual_patching(model, pair, other)  # (L, T)
    tokens = pair.good.given.tokens[: found.shape[1]]
    if not command.as_json:
        from parakit.cli.inspecting.heat_map import label, show_grid

        show_value(summary)
        print(f"value of --patch-from: {of_other['value']:+.3f}")
        print("  ".join(f"{i} {label(token)}" for i, token in enumerate(tokens)))
        rows = {f"after layer {layer}": values for layer, values in enumerate(found)}
        show_grid("what the other residual stream adds to it, at each token", rows)
    return summary | {"other": of_other, "patched": found.tolist(), "columns": tokens}


def _shares(model: Model, command: InspectHeadsCommandConfig, text: str) -> JsonObject:
    from parakit.inspection.attribution import logit_attribution
    from parakit.inspection.inputs import encode_input, run, token_text

    given = encode_input(model, text)
    wanted = command.next_token
    token_id = int(run(model, given)[-1].argmax()) if wanted is None else single_token(model, wanted)
    against = None if command.against is None else single_token(model, command.against)
    found = logit_attribution(model, given, token_id, against=against)
    name = token_text(model.tokenizer, token_id)
    if not command.as_json:
        _show_shares(found.shares, found.logit, name, command.against)
    shares = {part: share.tolist() for part, share in found.shares.items()}
    return {"token": name, "token_id": token_id, "against": command.against, "logit": found.logit} | {
        "total": found.total,
        "shares": shares,
    }


def _show_shares(shares: dict[str, np.ndarray], logit: float, name: str, against: str | None) -> None:
    from parakit.cli.inspecting.heat_map import label, show_grid

    less = f" minus that of {label(against)!r}" if against else ""
    print(f"logit of {label(name)!r}{less}: {logit:.3f}")
    heads = {part.removesuffix(".heads"): share for part, share in shares.items() if part.endswith(".heads")}
    show_grid("shares of the heads", heads)
    rest = {part: float(share) for part, share in shares.items() if not part.endswith(".heads")}
    print("  ".join(f"{part} {share:+.2f}" for part, share in rest.items() if abs(share) >= 0.005))


def single_token(model: Model, text: str) -> int:
    """The id of a text that is one token. Raises `UserError` for another, with its tokens."""
    tokenizer = model.tokenizer.target
    token_id = tokenizer.token_id(text)
    if token_id is not None and token_id in tokenizer.control_ids:
        return token_id
    token_ids = tokenizer.encode(text)
    if len(token_ids) != 1:
        pieces = [tokenizer.decode([one]) for one in token_ids]
        raise UserError(
            f"{text!r} is {len(token_ids)} tokens to this model: {pieces}",
            "give one, with the space that belongs to a word: ' Paris'",
        )
    return token_ids[0]
