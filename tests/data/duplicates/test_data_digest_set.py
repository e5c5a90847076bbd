"""The digest set equals Python's own set, in 16 bytes a digest."""

import hashlib
import tracemalloc

import pytest

from parakit.data.duplicates import digest_set
from parakit.data.duplicates.digest_set import DigestSet


def digest(k: int) -> str:
    return hashlib.sha256(str(k).encode()).hexdigest()


def test_it_agrees_with_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_set, "RECENT", 8)
    known, reference = DigestSet(), set()
    for k in [j * j % 1009 for j in range(3_000)]:
        assert (digest(k) in known) == (k in reference)
        assert known.add(digest(k)) == (k not in reference)
        reference.add(k)
    assert len(known) == len(reference)


def test_digests_that_share_their_first_half_are_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_set, "RECENT", 4)
    known = DigestSet()
    digests = ["ab" * 8 + f"{k:016x}" + "00" * 16 for k in range(40)]
    assert all(known.add(d) for d in digests)
    assert not any(known.add(d) for d in digests)
    assert "ab" * 8 + f"{99:016x}" + "00" * 16 not in known


def test_memory_is_16_bytes_a_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_set, "RECENT", 1_000)
    tracemalloc.start()
    known = DigestSet()
    for k in range(20_000):
        known.add(digest(k))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20_000 * 16 + 1_000 * 150
