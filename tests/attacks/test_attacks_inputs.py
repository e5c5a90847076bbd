"""A sample of the hostile texts; `python -m tests.attacks.inputs` makes thousands."""

from __future__ import annotations

import pytest

from tests.attacks.inputs import sweep


def test_hostile_texts_are_encoded_and_come_back() -> None:
    assert sweep(20)["faults"] == []


@pytest.mark.long
def test_thousands_of_hostile_texts_are_encoded_and_come_back() -> None:
    assert sweep(1000, seed=5000)["faults"] == []
