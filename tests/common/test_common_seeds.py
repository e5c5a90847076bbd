"""Streams are pure functions of seed and labels, the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from parakit.common.seeds import derive_seed, rng, seed_everything

labels = st.lists(st.integers() | st.text(), max_size=4)


def test_streams_are_pinned() -> None:
    assert rng(7, "batches", 3).integers(0, 2**32, 4).tolist() == [
        2632938496,
        124190657,
        2927482651,
        988905171,
    ]
    assert rng(0).permutation(8).tolist() == [5, 2, 4, 3, 6, 7, 1, 0]
    assert rng(1, "x").random() == 0.8753030595724567


def test_the_seed_is_the_sha256_of_seed_and_labels() -> None:
    text = b"7\x1fstr:batches\x1fint:3"
    assert derive_seed(7, "batches", 3) == int.from_bytes(hashlib.sha256(text).digest()[:16], "little")


@given(st.integers(), labels)
def test_the_same_name_gives_the_same_stream(seed: int, names: list[int | str]) -> None:
    assert np.array_equal(rng(seed, *names).random(3), rng(seed, *names).random(3))


@given(st.integers(), labels, st.integers(), labels)
def test_another_name_gives_another_stream(
    seed: int, names: list, other_seed: int, other_names: list
) -> None:
    assume((seed, names) != (other_seed, other_names))
    assert derive_seed(seed, *names) != derive_seed(other_seed, *other_names)


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", "b"), ("a\x1fstr:b",)), ((1,), ("1",)), (("a\\x1f",), ("a\x1f",)), ((1, 2), (12,)), (("",), ())],
)
def test_labels_cannot_be_confused(one: tuple, other: tuple) -> None:
    assert derive_seed(0, *one) != derive_seed(0, *other)


def test_numpys_integers_name_the_same_stream_as_pythons() -> None:
    assert derive_seed(np.int64(7), "epoch", np.int32(3)) == derive_seed(7, "epoch", 3)
    with pytest.raises(TypeError):
        derive_seed(7, 3.0)  # type: ignore[arg-type]


def test_seeding_everything_fixes_torch() -> None:
    import torch

    draws = []
    for seed in (3, 3, 4):
        seed_everything(seed)
        draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
