"""The digest set equals Python's own set, in 16 bytes a digest."""

import hashlib
import tracemalloc

import pytest

from parakit.data import deduplication
from parakit.data.deduplication import DigestSet


def digest(k: int) -> str:
    return hashlib.sha256(str(k).encode()).hexdigest()


def test_it_agrees_with_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deduplication, "RECENT", 8)
    ours, reference = DigestSet(), set()
    for k in [j * j % 1009 for j in range(3_000)]:
        assert (digest(k) in ours) == (k in reference)
        assert ours.add(digest(k)) == (k not in reference)
        reference.add(k)
    assert len(ours) == len(reference)


def test_digests_that_share_their_first_half_are_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deduplication, "RECENT", 4)
    ours = DigestSet()
    digests = ["ab" * 8 + f"{k:016x}" + "00" * 16 for k in range(40)]
    assert all(ours.add(d) for d in digests)
    assert not any(ours.add(d) for d in digests)
    assert "ab" * 8 + f"{99:016x}" + "00" * 16 not in ours


def test_memory_is_16_bytes_a_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deduplication, "RECENT", 1_000)
    tracemalloc.start()
    ours = DigestSet()
    for k in range(20_000):
        ours.add(digest(k))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20_000 * 16 + 1_000 * 150
