"""The published models as Parakit and as transformers load them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def peer_smollm2(imported_smollm2: Path):
    """A function that gives transformers' model and tokenizer of the imported folder, fresh each time."""
    transformers = pytest.importorskip("transformers")

    def load():
        model = transformers.AutoModelForCausalLM.from_pretrained(imported_smollm2, dtype="float32")
        return model.eval(), transformers.AutoTokenizer.from_pretrained(imported_smollm2)

    return load


@pytest.fixture(scope="session")
def book(public_data: Callable[[str], Path]) -> str:
    """Some kilobytes of an encyclopedia's text."""
    return gzip.decompress((public_data("wikitext-2") / "test.txt.gz").read_bytes()).decode()[:60_000]


@pytest.fixture(scope="session")
def instructions(public_data: Callable[[str], Path]) -> list[dict[str, str]]:
    """Instructions with an answer, a chosen and a rejected one."""
    import json

    file = public_data("llms_from_scratch_instruct") / "instruction-data-with-preference.json.gz"
    rows = json.loads(gzip.decompress(file.read_bytes()))
    return [row for row in rows if not row["input"] and row["chosen"] != row["rejected"]]
