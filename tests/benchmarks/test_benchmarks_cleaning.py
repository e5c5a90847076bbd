"""The quality rules decide as datatrove's filters do."""

from __future__ import annotations

import pytest

from benchmarks.harness import DATA
from benchmarks.speed.cleaning import PEERS, RULES, _peer, _run, dirty_texts


@pytest.mark.long
def test_decisions_equal_those_of_datatrove() -> None:
    if not (PEERS / "datatrove" / "bin" / "python").exists() or not (DATA / "gutenberg").is_dir():
        pytest.skip("needs datatrove in .peers, and the public data")
    texts = list(dirty_texts(1000))
    peer = _peer(texts)
    assert peer is not None
    for name in RULES:
        kept = _run(f"quality:rules={name}", texts)[1]
        assert 0.1 < sum(kept) / len(kept) < 0.95, name
        agreement = sum(a == b for a, b in zip(kept, peer[name]["kept"], strict=True)) / len(texts)
        assert agreement >= 0.98, (
            name,
            agreement,
        )  # of gopher 0.987: words near the threshold are split otherwise
