"""The texts that are searched for the items of benchmarks: what a model was trained on, by its lineage, and named ones.

Of an artifact's text the training split counts. Token shards are decoded only where the text that they were made from is
gone. What is not known is listed: the training text of a published model, an artifact that is no longer there or is another
one now, prompts of reinforcement learning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from parakit.common.artifacts import LINEAGE, open_artifact, read_lineage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.lineages import Ancestry, find_ancestors
from parakit.common.progress import log
from parakit.data.config import TextConfig
from parakit.data.conversations.sets import iter_conversations
from parakit.data.corpus import iter_corpus
from parakit.data.documents import Document
from parakit.data.duplicates.suite_files import file_rows, has_rows, strings, suite_files
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.tokenizer import Tokenizer

LINEAGE_TEXTS = "lineage"
"""Stands for what the lineage of the model names."""
TEXT_KINDS = ("corpus", "conversations", "examples", "preferences")
_WITH_PROMPTS = ("ppo", "grpo", "best_of_n")  # methods whose prompts need not be an artifact


@dataclass(frozen=True)
class SearchedText:
    """A text, and how to read its documents; `digest`: of the artifact, or None for files, whose text is digested as it
    is read.
    """

    path: str
    kind: str
    digest: str | None
    documents: Callable[[], Iterator[Document]]


@dataclass(frozen=True)
class TrainingTexts:
    """The texts to search, and what else the model was trained on, in words."""

    texts: list[SearchedText] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def training_texts(model: str | Path) -> TrainingTexts:
    """What the model folder `model` was trained on, through all that it was made from."""
    folder = Path(model)
    if not (folder / LINEAGE).is_file():
        return TrainingTexts(unknown=["a published model: what it was trained on is not known"])
    ancestry = find_ancestors(folder, _is_trained_on)
    texts = [_artifact_text(path, ancestry.found[path]) for path in ancestry.of_kinds(*TEXT_KINDS)]
    decoded, explained = _shards_alone(ancestry)
    lost = [one for one in ancestry.lost.values() if one.kind != "tokenizer" and one.digest not in explained]
    unknown = [
        f"{one.kind} {one.path} ({one.digest[:16]}): "
        + ("another one is there now" if one.replaced else "no longer there")
        for one in lost
    ]
    unknown = _outside(ancestry) + unknown
    if not (texts or decoded or unknown):
        unknown = ["its lineage names no text"]
    return TrainingTexts(texts + decoded, unknown)


def named_text(path: str | Path) -> TrainingTexts:
    """A file or a folder of text, an artifact with text, or a model for all that its lineage names. `UserError` where
    there is nothing to read.
    """
    folder = Path(path).expanduser()
    if not (folder / LINEAGE).is_file():
        if not folder.exists():
            raise UserError(f"{path}: no such file or folder", "name text, a corpus, token shards or a model")
        return TrainingTexts([SearchedText(str(path), "files", None, lambda: _file_documents(folder))])
    lineage = read_lineage(folder)
    if lineage["kind"] in TEXT_KINDS:
        return TrainingTexts([_artifact_text(folder, lineage)])
    if lineage["kind"] in ("model", "adapter", "shards"):
        return training_texts(folder)
    raise UserError(
        f"{path}: holds a {lineage['kind']}, which is no text", "name text, a corpus, token shards or a model"
    )


def gather_texts(model: str | Path, names: Sequence[str]) -> TrainingTexts:
    """The texts of `names`, each once; `lineage` among them stands for what `model` was trained on."""
    found = TrainingTexts()
    seen = set[str]()
    for name in names:
        one = training_texts(model) if name == LINEAGE_TEXTS else named_text(name)
        new = [text for text in one.texts if (text.digest or str(Path(text.path).resolve())) not in seen]
        seen |= {text.digest or str(Path(text.path).resolve()) for text in new}
        found.texts.extend(new)
        found.unknown.extend(one.unknown)
    return found


def _is_trained_on(lineage: JsonObject) -> bool:
    """Whether what an ancestor was made from counts: not for a tokenizer, a reward model, and the texts themselves."""
    if lineage["kind"] in (*TEXT_KINDS, "tokenizer"):
        return False
    return (lineage.get("config") or {}).get("objective") != "reward"


def _outside(ancestry: Ancestry) -> list[str]:
    """What lineages say was trained on and is not recorded."""
    found = []
    for path, lineage in ancestry.found.items():
        config = lineage.get("config") or {}
        if lineage["kind"] not in ("model", "adapter"):
            continue
        kinds = {parent["kind"] for parent in lineage.get("parents") or []}
        if config.get("stage") == "import" and not kinds:
            found.append(f"{path.name} is a published model: what it was trained on is not known")
        elif config.get("published") and not kinds & {"model", "adapter"}:
            found.append(
                f"{path.name} was tuned from a published model: what that was trained on is not known"
            )
        if config.get("objective") in _WITH_PROMPTS and not kinds & set(TEXT_KINDS):
            found.append(f"{path.name}: the prompts of {config['objective']} are not recorded")
    return found


def _shards_alone(ancestry: Ancestry) -> tuple[list[SearchedText], set[str]]:
    """Token shards whose text is gone, to be decoded, and the digests of the lost parents that these stand for."""
    folders = {lineage["digest"]: path for path, lineage in ancestry.found.items()}
    texts, explained = [], set[str]()
    for path in ancestry.of_kinds("shards"):
        lineage = ancestry.found[path]
        parents = {parent["kind"]: parent["digest"] for parent in lineage.get("parents") or []}
        lost = {digest for kind, digest in parents.items() if kind in TEXT_KINDS and digest not in folders}
        tokenizer = folders.get(parents.get("tokenizer", ""))
        if tokenizer and (lost or not parents.keys() & set(TEXT_KINDS)):
            read = partial(_decoded, path, tokenizer)
            texts.append(SearchedText(str(path), "shards", lineage["digest"], read))
            explained |= lost
    return texts, explained


def _artifact_text(path: Path, lineage: JsonObject) -> SearchedText:
    kind = str(lineage["kind"])
    return SearchedText(str(path), kind, str(lineage["digest"]), lambda: _artifact_documents(path, kind))


def _artifact_documents(path: Path, kind: str) -> Iterator[Document]:
    """The training split."""
    if kind == "corpus":
        yield from iter_corpus(path, "train")
    elif kind == "conversations":
        for number, one in enumerate(iter_conversations(path, "train"), 1):
            yield _document((message.content for message in one.messages), f"{path.name}:{number}")
    else:
        rows = open_artifact(path, kind).path / "train.jsonl"
        if rows.stat().st_size:
            for number, row in enumerate(file_rows(rows), 1):
                yield _document(strings(row), f"{path.name}:{number}")


def _document(parts: Iterator[str], source: str) -> Document:
    text = "\n".join(parts)
    return Document(text, source, len(text.encode("utf-8", "surrogatepass")))


def _decoded(path: Path, tokenizer_dir: Path) -> Iterator[Document]:
    tokenizer = Tokenizer.load(tokenizer_dir)
    shards = TokenShards.open(path, "train")
    for number in range(shards.n_documents):
        ids = shards.token_ids[shards.offsets[number] : shards.offsets[number + 1]]
        yield _document(iter((tokenizer.decode(ids.tolist()),)), f"{path.name}:{number + 1}")


def _file_documents(path: Path) -> Iterator[Document]:
    """Rows with all their texts, and the documents of every other file; what is left out is printed."""
    files = [file for _, file in suite_files(path)]
    rows = [file for file in files if has_rows(file)]
    for file in rows:
        for number, row in enumerate(file_rows(file), 1):
            yield _document(strings(row), f"{file.name}:{number}")
    if len(rows) == len(files):
        return
    report = ReadReport()
    exclude = tuple({f"*{suffix}" for file in rows for suffix in ("".join(file.suffixes[-2:]), file.suffix)})
    config = TextConfig(
        paths=(str(path),), exclude=exclude, deduplicate=False, strip_gutenberg=False, cleaning=()
    )
    yield from read_documents(config, report)
    n_skipped = report.skipped.total()
    if n_skipped:
        log(f"{path}: {n_skipped:,} files were not searched: " + ", ".join(sorted(report.skipped)))


class Digested:
    """Documents that pass through, their number, bytes and digest."""

    def __init__(self, documents: Iterator[Document]) -> None:
        self._documents, self._hash = documents, hashlib.blake2b(digest_size=16)
        self.n_documents = self.n_bytes = 0

    def __iter__(self) -> Iterator[Document]:
        for document in self._documents:
            self._hash.update(document.text.encode("utf-8", "surrogatepass") + b"\0")
            self.n_documents += 1
            self.n_bytes += document.n_bytes
            yield document

    @property
    def digest(self) -> str:
        """Of the texts in their order, 32 hexadecimal digits."""
        return self._hash.hexdigest()
