"""The benchmark of cleaning: its intervals against scipy's, and its dirt."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.cleaning_helps import NOTHING, gains, t_quantile, table
from benchmarks.quality.dirty_mixture import misdecoded


def test_the_interval_of_two_rows_is_that_of_a_paired_t_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    before, after = np.random.default_rng(0).normal([[2.0], [1.9]], 0.05, (2, 6))
    found = gains(
        {NOTHING: list(before), "step": list(after), "same": list(before)},
        {NOTHING: "a", "step": "b", "same": "a"},
    )
    wanted = stats.ttest_rel(before, after).confidence_interval()
    assert (found["step"]["gain_low"], found["step"]["gain_high"]) == pytest.approx(tuple(wanted), abs=1e-4)
    assert found["same"]["gain"] == found["same"]["gain_low"] == found["same"]["gain_high"] == 0
    for freedom in (5, 10, 32):
        assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=2e-3)


def test_broken_text_is_broken_as_ftfy_repairs_it() -> None:
    ftfy = pytest.importorskip("ftfy")
    text = "“Où est-il?” — “À Zürich …”"
    assert misdecoded(text) != text
    assert ftfy.fix_encoding(misdecoded(text)) == text


def test_the_table_has_a_row_for_each_way_to_clean() -> None:
    digests = {NOTHING: "a", "language": "b", "clean_text_alone": "c"}
    figures = {
        "dirty": gains({NOTHING: [2.0, 2.1], "language": [1.9, 2.0], "clean_text_alone": [1.8, 1.9]}, digests)
    }
    figures["clean"] = gains({NOTHING: [1.8, 1.9], "language": [1.8, 1.9]}, {NOTHING: "a", "language": "a"})
    for where, row, n_bytes in (
        ("dirty", NOTHING, 100),
        ("dirty", "language", 80),
        ("clean", NOTHING, 50),
        ("clean", "language", 50),
    ):
        figures[where][row]["bytes"] = n_bytes
    lines = table(figures).splitlines()
    assert lines[3] == "| language | 80% | +0.100 (+0.100 to +0.100) | 100% | 0: the same text |"
    assert lines[4].startswith("| clean text alone |  | +0.200")
