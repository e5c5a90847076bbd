"""The table of architectures in docs/models.md: up to date, and with ten tested variants of each."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from parakit.checkpoints.registry import ARCHITECTURES
from tests.architecture.models_page import EMBEDDING_GEMMA_ROW, PAGE, page, rows

N_VARIANTS = 10


def test_the_table_is_generated_from_the_registry_and_the_tests():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make models`"


def test_every_architecture_is_tested_with_ten_variants():
    counts = {row.model_type: row.n_variants for row in rows()}
    assert counts.keys() == ARCHITECTURES.keys() | {EMBEDDING_GEMMA_ROW}
    assert {name: n for name, n in counts.items() if n < N_VARIANTS} == {}
