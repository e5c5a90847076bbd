"""The tokenizers that the studio can show: those of the folders below it, and published vocabularies whose files are on this
machine. Nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parakit.serving.studio.inventory.finding import find_tokenizers
from parakit.tokens.importers.published import published_tokenizer
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_FILES = {
    "gpt2": ("vocab.bpe", "encoder.json"),
    "cl100k_base": ("cl100k_base.tiktoken",),
    "o200k_base": ("o200k_base.tiktoken",),
}
_FOLDERS = ("", "tok_gpt2", "tok_tiktoken", "tokenizers")


@dataclass(frozen=True)
class TokenizerSource:
    """`published`: the name of a published vocabulary, whose files are in `path`; empty for a tokenizer's folder."""

    name: str
    path: Path
    published: str = ""

    def load(self) -> Tokenizer:
        """The tokenizer. `UserError` for a damaged folder."""
        if self.published:
            return published_tokenizer(self.path, self.published)
        return Tokenizer.load(self.path)


def tokenizer_sources(root: Path) -> list[TokenizerSource]:
    """The folders' first, each tokenizer once: stages of a build share one."""
    sources: list[TokenizerSource] = []
    seen = set()
    for found in sorted(find_tokenizers(root), key=lambda one: one.kind != "tokenizer"):
        content = (
            (found.path / "tokenizer.json").stat() if (found.path / "tokenizer.json").is_file() else None
        )
        key = (found.path.parent, content.st_size) if content else found.path
        if key not in seen:
            seen.add(key)
            sources.append(TokenizerSource(found.name, found.path))
    return [*sources, *_published(root)]


def _published(root: Path) -> Iterator[TokenizerSource]:
    places = [root, Path(os.environ["PARAKIT_DATA"])] if "PARAKIT_DATA" in os.environ else [root]
    for name, files in _FILES.items():
        for folder in (place / inner for place in places for inner in _FOLDERS):
            if all((folder / file).is_file() or (folder / f"{file}.gz").is_file() for file in files):
                yield TokenizerSource(name, folder, name)
                break
