"""What a scaling law predicts for a build: only of runs of the same data, and not of those that it was fitted to."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.common import UserError
from parakit.planning.scaling_laws import ScalingLaw, ScalingRun, fit_with_bootstrap
from parakit.planning.stored_law import StoredLaw, find_law, read_law
from parakit.recipe.predicted_loss import law_data, with_predicted_loss
from parakit.reports.cards.model_card import model_card
from parakit.reports.rendering import render_report
from parakit.reports.summary_schema import BuildSummary
from tests.reports.report_sample import full_summary, parsed

LAW = ScalingLaw(
    name="planted", irreducible=1.3, size_factor=40.0, data_factor=700.0, size_exponent=0.3, data_exponent=0.4
)
RUNS = [ScalingRun(n, d, LAW.loss(n, d)) for n in (1e5, 2e5, 4e5) for d in (1e6, 2e6, 4e6)]


def summary_of(run: ScalingRun) -> BuildSummary:
    """The sample's summary, with another pre-training."""
    summary = parsed(full_summary())
    figures = summary.training("pretrain")
    assert figures is not None
    of_run = {"parameters": int(run.parameters), "tokens": int(run.tokens), "loss": run.loss}
    return summary.model_copy(
        update={"stages": {**summary.stages, "pretrain": figures.model_copy(update=of_run)}}
    )


@pytest.fixture
def law(tmp_path: Path) -> str:
    """The folder of a law of the sample's data."""
    summary = summary_of(RUNS[0])
    figures = summary.training("pretrain")
    assert figures is not None
    (tmp_path / "law").mkdir()
    fit = fit_with_bootstrap(RUNS, 4)
    StoredLaw("family", fit, "nats per token", law_data(summary, figures)).write(tmp_path / "law")
    stored = read_law(tmp_path)
    assert stored.fit == fit
    return str(tmp_path)


def test_the_prediction_is_in_the_summary_the_card_and_the_report(law: str) -> None:
    summary = with_predicted_loss(summary_of(ScalingRun(1e6, 1e7, 1.01 * LAW.loss(1e6, 1e7))), law)
    figures = summary.training("pretrain")
    assert figures is not None
    assert figures.predicted_loss is not None
    assert figures.predicted_loss.value == pytest.approx(LAW.loss(1e6, 1e7), rel=1e-4)
    words = f"(predicted {LAW.loss(1e6, 1e7):.3f}, "
    assert words in model_card(summary, "pretrain")
    assert "outside the interval" in model_card(summary, "pretrain")
    assert words in render_report(summary)
    assert BuildSummary.model_validate(summary.to_dict()) == summary


def test_a_law_predicts_nothing_of_its_own_runs_and_of_other_data(
    law: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = summary_of(RUNS[4])
    assert with_predicted_loss(own, law) == own
    assert "its law was fitted to this run" in capsys.readouterr().err
    other = summary_of(ScalingRun(1e6, 1e7, 2.0))
    changed = [one.model_copy(update={"digest": "another"}) for one in other.lineage]
    other = other.model_copy(update={"lineage": tuple(changed)})
    assert with_predicted_loss(other, law) == other
    assert "its runs have another tokenizer" in capsys.readouterr().err


def test_a_folder_without_a_law_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no scaling law"):
        find_law(tmp_path)
    (tmp_path / "fit.json").write_text('{"law": {}}')
    with pytest.raises(UserError, match="is no scaling law"):
        read_law(tmp_path)
