"""Searching an index: by words, by vectors, both fused, and ranked again by a cross-encoder.

Fusion adds 1 / (60 + rank) over the two rankings (Cormack et al. 2009, "Reciprocal rank fusion"): it needs no weights and
no scales of the scores. An open index follows its folder: when a new version has taken its place, the next search has it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from parakit.assistants.retrieval.config import SearchConfig
from parakit.assistants.retrieval.encoders import PassageEncoder, encoder_digest
from parakit.assistants.retrieval.indexing import ENCODER, KIND, THRESHOLD, settings_of
from parakit.assistants.retrieval.store import PassageStore, StoredPassage
from parakit.assistants.retrieval.vectors import VectorSearch
from parakit.assistants.retrieval.words import WordSearch, top
from parakit.common.artifacts import LINEAGE, Artifact, open_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject

if TYPE_CHECKING:
    from parakit.inference.loaded_model import Model

FUSION_CONSTANT = 60
TRIES = 5  # of opening a version that is replaced meanwhile


@dataclass(frozen=True)
class Hit:
    """A passage that was found. `score`: what it is ranked by; `words`: BM25; `vectors`: the cosine; `reranker`: the
    cross-encoder's score. None: it was not computed.
    """

    passage: StoredPassage
    score: float
    words: float | None = None
    vectors: float | None = None
    reranker: float | None = None

    def to_json(self) -> JsonObject:
        """Plain values, with the text."""
        one = self.passage
        place = {"source": one.source, "title": one.title, "heading": one.heading}
        scores = {
            "score": self.score,
            "words": self.words,
            "vectors": self.vectors,
            "reranker": self.reranker,
        }
        known = {name: round(value, 6) for name, value in scores.items() if value is not None}
        where = {"begin": one.begin, "end": one.end, "pages": one.page_numbers}
        return {"id": one.id, **place, **where, **known, "text": one.text}


@dataclass(frozen=True)
class SearchResult:
    """The passages, best first, and how well the best one fits: `words` is the share of the query's weight that its best
    passage has, `vectors` the highest cosine, `reranker` the highest score.
    """

    hits: list[Hit]
    signals: dict[str, float]


class _Version:
    """What is loaded of one version of an index."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact, self.config = artifact, settings_of(artifact)
        self.store = PassageStore(artifact.path)
        self.ids = np.array(self.store.ids(), np.int64)
        self.words = WordSearch(artifact.path, len(self.ids), self.config.language)
        self.encoder: JsonObject | None = artifact.lineage["config"].get(ENCODER)
        self.vectors = VectorSearch(artifact.path) if self.encoder else None


class DocumentIndex:
    """An open index. Searches from several threads take turns."""

    def __init__(self, path: str | Path, *, encoder: str | Path | None = None, device: str = "auto") -> None:
        """`encoder`: where the index's encoder is, if no longer where it was. `UserError` for a folder that is no index."""
        self.path, self._encoder_folder, self._device = Path(path), encoder, device
        self._lock = threading.Lock()
        self._version = self._load()
        self._encoder: PassageEncoder | None = None
        self._rerankers: dict[str, Model] = {}

    @property
    def lineage(self) -> JsonObject:
        """The lineage of the version that is loaded."""
        return self._version.artifact.lineage

    @property
    def threshold(self) -> JsonObject | None:
        """The fitted threshold below which a question has no answer in the documents."""
        return self.lineage["config"].get(THRESHOLD)

    @property
    def n_passages(self) -> int:
        """Passages of an answer, where a question sets none."""
        return self._version.config.n_passages

    @property
    def has_vectors(self) -> bool:
        """Whether it can be searched by vectors."""
        return self._version.vectors is not None

    def __len__(self) -> int:
        return len(self._version.ids)

    def passages(self) -> list[StoredPassage]:
        """Every passage, in the order of the ids."""
        return list(self._version.store.all_passages())

    def refresh(self) -> bool:
        """Load the version that is in the folder now; returns whether it is another."""
        if self._stamp() == self._loaded:
            return False
        old, self._version = self._version, self._load()
        if old.encoder != self._version.encoder:
            self._encoder = None
        old.store.close()
        return True

    def search(
        self, query: str, config: SearchConfig | None = None, *, without: Collection[str] = ()
    ) -> SearchResult:
        """The passages for a query. `without`: sources whose passages do not count. `UserError` for an empty query, and
        for a search by vectors in an index that has none.
        """
        config = config or SearchConfig()
        if not query.strip():
            raise UserError("the question is empty", "write what you look for")
        with self._lock:
            self.refresh()
            return self._search(query, config, without)

    def _search(self, query: str, config: SearchConfig, without: Collection[str]) -> SearchResult:
        version = self._version
        if config.by == "vectors" and version.vectors is None:
            raise UserError(
                f"{self.path}: has no vectors: it was made with --encoder none", "search --by words"
            )
        hidden = self._hidden(without)
        n = max(config.n_candidates, config.n_passages)
        scores = version.words.scores(query)
        scores[hidden] = 0
        rankings: list[list[int]] = []
        if config.by != "vectors":
            rankings.append([int(version.ids[row]) for row in top(scores, n)])
        vector = None
        if version.vectors is not None and config.by != "words":
            vector = self._loaded_encoder().query(query)
            gone = {int(one) for one in version.ids[hidden]}
            near = version.vectors.most_similar(vector, n + len(gone))
            rankings.append([one for one, _ in near if one not in gone][:n])
        hits = self._distinct(self._hits(_fuse(rankings), scores, vector), config)
        if config.reranker:
            hits = self._reranked(query, hits, config)
        return SearchResult(hits[: config.n_passages], self._signals(query, hits, scores))

    def _hidden(self, without: Collection[str]) -> np.ndarray:
        if not without:
            return np.zeros(len(self._version.ids), bool)
        sources = self._version.store.sources()
        return np.array([sources[int(one)] in without for one in self._version.ids])

    def _hits(
        self, fused: Sequence[tuple[int, float]], scores: np.ndarray, vector: np.ndarray | None
    ) -> list[Hit]:
        version = self._version
        ids = [one for one, _ in fused]
        cosines: dict[int, float] = {}
        if vector is not None and version.vectors is not None and ids:
            cosines = dict(zip(ids, (version.vectors.vectors(ids) @ vector).tolist(), strict=True))
        rows = np.searchsorted(version.ids, ids)
        by_words = dict(zip(ids, scores[rows].tolist(), strict=True)) if ids else {}
        fused_scores = dict(fused)
        return [
            Hit(one, fused_scores[one.id], by_words[one.id], cosines.get(one.id))
            for one in version.store.passages(ids)
        ]

    def _distinct(self, hits: list[Hit], config: SearchConfig) -> list[Hit]:
        """The hits without repeated texts, as many as are needed."""
        n = max(config.n_passages, config.n_reranked if config.reranker else 0)
        seen: set[str] = set()
        found = []
        for hit in hits:
            if hit.passage.text not in seen:
                seen.add(hit.passage.text)
                found.append(hit)
            if len(found) == n:
                break
        return found

    def _reranked(self, query: str, hits: list[Hit], config: SearchConfig) -> list[Hit]:
        assert config.reranker is not None
        head, rest = hits[: config.n_reranked], hits[config.n_reranked :]
        if not head:
            return hits
        pairs = [(query, _searched(hit.passage)) for hit in head]
        scores = self._reranker(config.reranker).regress(pairs, too_long="truncate")
        ranked = sorted(zip(scores, range(len(head)), strict=True), key=lambda one: (-one[0], one[1]))
        found = [
            Hit(head[i].passage, float(score), head[i].words, head[i].vectors, float(score))
            for score, i in ranked
        ]
        return found + rest

    def _signals(self, query: str, hits: Sequence[Hit], scores: np.ndarray) -> dict[str, float]:
        signals = {}
        if highest := self._version.words.highest(query):
            signals["words"] = float(scores.max(initial=0.0)) / highest
        if cosines := [hit.vectors for hit in hits if hit.vectors is not None]:
            signals["vectors"] = max(cosines)
        if reranked := [hit.reranker for hit in hits if hit.reranker is not None]:
            signals["reranker"] = max(reranked)
        return signals

    # --- loading
    def _stamp(self) -> tuple[int, int] | None:
        try:
            facts = (self.path / LINEAGE).stat()
        except OSError:
            return None  # while it is replaced on a system that cannot swap folders
        return facts.st_ino, facts.st_mtime_ns

    def _load(self) -> _Version:
        for attempt in range(TRIES):
            before = self._stamp()
            try:
                version = _Version(open_artifact(self.path, KIND, verify=False))
            except (UserError, OSError):
                if attempt == TRIES - 1 or self._stamp() == before:
                    raise
                continue
            if self._stamp() == before:
                self._loaded = before
                return version
            version.store.close()
        raise UserError(f"{self.path}: is replaced again and again", "wait for what writes there")

    def _loaded_encoder(self) -> PassageEncoder:
        if self._encoder is None:
            record = self._version.encoder
            assert record is not None
            folder = Path(self._encoder_folder or record["path"])
            if not folder.is_dir():
                raise UserError(
                    f"{self.path}: was made with the encoder {record['path']}, and {folder} is no folder",
                    "name the encoder's folder with --encoder, or search --by words",
                )
            if (found := encoder_digest(folder)) != record["digest"]:
                raise UserError(
                    f"{self.path}: was made with the encoder {record['path']} ({record['digest'][:12]}), and {folder} is"
                    f" another ({found[:12]})",
                    f"name that encoder, or make the vectors again: parakit index --output {self.path} --encoder {folder}",
                )
            self._encoder = PassageEncoder.load(folder, self._device)
        return self._encoder

    def _reranker(self, folder: str) -> Any:
        if folder not in self._rerankers:
            from parakit.inference.loaded_model import Model

            model = Model.load(folder, device=self._device)
            if "regress" not in model.kind.capabilities:
                raise UserError(
                    f"{folder}: is {model.kind.description}, and a reranker scores pairs of texts",
                    "tune one: parakit finetune --task regress on rows of text, text_pair and score",
                )
            self._rerankers[folder] = model
        return self._rerankers[folder]


def _fuse(rankings: Sequence[Sequence[int]]) -> list[tuple[int, float]]:
    """Ids with the sum of their reciprocal ranks, best first; of equal ones the lower id."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, one in enumerate(ranking, 1):
            scores[one] = scores.get(one, 0.0) + 1 / (FUSION_CONSTANT + rank)
    return sorted(scores.items(), key=lambda one: (-one[1], one[0]))


def _searched(passage: StoredPassage) -> str:
    return f"{passage.heading}\n{passage.text}" if passage.heading else passage.text
