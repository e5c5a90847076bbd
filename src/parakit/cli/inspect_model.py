"""`parakit inspect VERB MODEL`: look inside a model. Each verb is a module of `inspecting`, imported when it is used."""

from __future__ import annotations

import importlib

from parakit.common.errors import UserError
from parakit.common.settings import closest_match

COMMANDS = {
    "attention": "What each head attends to in a text, as a heat map or a page to point at.",
    "heads": "What kind each head is, and what a pair of texts or a token owes to it.",
    "neurons": "The neurons that decide a pair of texts, or are most active in a text.",
    "behaviours": "Five behaviours of attention: accuracy, the heads that carry each, and its answers without them.",
    "lens": "What each layer predicts: the logit lens, and a tuned lens trained on your text.",
    "next": "The likeliest next tokens at every position, under temperature and top-p.",
    "embeddings": "Neighbours of words, analogies, similarity of texts, and a map of vectors.",
    "diff": "What differs between two checkpoints by layer and matrix; what an adapter changed.",
    "experts": "Which experts each token goes to, and how evenly they are loaded.",
    "activations": "Write what a model computes for a text to a file.",
}
"""Each verb is a module `inspecting/VERB.py` with a `main(argv)`, and its settings `InspectVERBCommandConfig`."""


def main(argv: list[str]) -> int:
    """Run `parakit inspect VERB ...`; returns the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {verb:12} {summary}" for verb, summary in COMMANDS.items()]
        print("\n".join(["usage: parakit inspect VERB MODEL ...", "", "Look inside a model.", "", *lines]))
        return 0 if argv else 2
    verb, *rest = argv
    if verb not in COMMANDS:
        close = closest_match(verb, COMMANDS)
        raise UserError(
            f"parakit inspect: unknown verb {verb!r}",
            f"did you mean {close!r}?" if close else f"verbs: {', '.join(COMMANDS)}",
        )
    status: int = importlib.import_module(f"parakit.cli.inspecting.{verb}").main(rest)
    return status
