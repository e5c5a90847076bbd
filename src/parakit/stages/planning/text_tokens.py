"""The tokens of a file or folder of text: counted by a tokenizer, or estimated from its bytes."""

from __future__ import annotations

from pathlib import Path

from parakit.common.errors import UserError
from parakit.planning.costs import TextTokens, estimate_tokens


def count_tokens(path: str, tokenizer: str | None) -> TextTokens:
    """Of the UTF-8 text at `path`, a file or a folder of files. Raises `UserError` where there is none."""
    where = Path(path)
    files = sorted(file for file in where.rglob("*") if file.is_file()) if where.is_dir() else [where]
    if not files or not files[0].is_file():
        raise UserError(
            f"--tokens {path!r} is neither a number nor a file of text",
            "write for example 300b, or name a file",
        )
    if tokenizer is None:
        return estimate_tokens(sum(file.stat().st_size for file in files))
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

    counter = Tokenizer.load(Path(tokenizer))
    n_bytes = n = 0
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        n_bytes += file.stat().st_size
        n += len(counter.encode(text))
    return TextTokens(n_bytes, n, n, n, f"counted by the tokenizer of {tokenizer}")
