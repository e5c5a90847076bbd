"""Quantizing a published model of 135M parameters and a quickstart model: size, KL to the original, perplexity, decoding speed
and suites, by method and bits.

The published model is calibrated on WikiText-2's training text and measured on its test text and on public multiple-choice
suites, the same questions for all; the same model as llama.cpp quantizes it (Q8_0, Q4_1) is measured on the same tokens. The
source is itself the dequantised Q4_1 of the published weights, so llama.cpp's Q4_1 finds the grid that its weights are on.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.harness import DATA, kept_or_measured, work_folder
from benchmarks.quality.multiple_choice import SUITES, Question, answered_right, questions
from benchmarks.quality.real_models.data import find_source
from benchmarks.registry import NO_TARGET, Figures, benchmark

INT4 = {"method": "gptq", "tune_steps": 192}
TUNED = INT4 | {"tune_codes": True}
ROWS: Mapping[str, Mapping[str, Any]] = {
    "int8": {"size_budget": "138.6MB"},
    "int8_budget_gptq": {"size_budget": "138.6MB", "method": "gptq"},
    "int8_largest": {"bits": 8, "quant_group_size": "largest"},
    "int8_gptq": {"bits": 8, "method": "gptq", "quant_group_size": "largest"},
    "int8_rows": {"bits": 8, "method": "gptq"},
    "int8_rounding": {"bits": 8},
    "int4": {"size_budget": "82.7MB", **INT4},
    "int4_codes": {"size_budget": "82.7MB", **TUNED},
    "int4_uniform": {"bits": 4, **INT4},
    "int4_tuned_codes": {"bits": 4, **TUNED},
    "int4_gptq": {"bits": 4, "method": "gptq"},
    "int4_awq": {"bits": 4, "method": "awq"},
    "int4_rounding": {"bits": 4},
    "int4_symmetric": {"bits": 4, "method": "gptq", "symmetric": True},
}
GGUF = {"gguf_q8_0": "Q8_0", "gguf_q4_1": "Q4_1"}
QUICKSTART: Mapping[str, Mapping[str, Any]] = {
    "quickstart_int8": {"bits": 8, "accept_loss": True},
    "quickstart_int4": {"bits": 4, "method": "gptq", "accept_loss": True},
}
DEFAULT_ROWS = ("int8", "int8_rounding", "int4", "int4_gptq", "int4_rounding", *GGUF, *QUICKSTART)


@benchmark("quantization", {
    "int8.size.ratio": (">= 3.88", "int8: times smaller than float32"),
    "int8.divergence.kl": ("< 0.001", "int8: KL to the original in nats a token"),
    "int8.points.all.change": (">= -0.5", "int8: change on four public suites, points"),
    "int4.size.ratio": (">= 6.5", "int4: times smaller than float32"),
    "int4.divergence.perplexity_ratio": ("<= 1.03", "int4: perplexity over the original's"),
    "int4.points.all.change": (">= -1.0", "int4: change on four public suites, points"),
    "quickstart_int8.size.ratio": (">= 3.88", "quickstart model, int8: times smaller than float32"),
    "quickstart_int8.divergence.kl": ("< 0.001", "quickstart model, int8: KL to the original in nats a token"),
    "quickstart_int8.suite_points": (">= -0.5", "quickstart model, int8: change on its suites, points"),
    "quickstart_int4.size.ratio": (">= 6.5", "quickstart model, int4: times smaller than float32"),
    "quickstart_int4.suite_points": (">= -1.0", "quickstart model, int4: change on its suites, points"),
    "*.points.all.change": (NO_TARGET, "{0}: change on four public suites, points"),
    "*.divergence.kl": (NO_TARGET, "{0}: KL to the original in nats a token"),
    "*.divergence.perplexity_ratio": (NO_TARGET, "{0}: perplexity over the original's"),
    "*.size.ratio": (NO_TARGET, "{0}: times smaller than float32"),
    "*.speed.ratio": (NO_TARGET, "{0}: decoding speed over the original's"),
})  # fmt: skip
def quantization(
    *,
    data: Path = DATA,
    rows: tuple[str, ...] = DEFAULT_ROWS,
    n_measured_tokens: int = 16_384,
    n_calibration_tokens: int = 24_576,
    n_questions: int = 250,
    quickstart: Path | None = None,
    work: Path | None = None,
) -> Figures:
    """`work` keeps what was measured, row by row: an interrupted run resumes, and rows of earlier runs are in the result.

    `n_questions`: of each suite. `quickstart`: the folder of a quickstart build; without it its rows are left out.
    """
    with work_folder(work) as folder:
        measured = _Measurement(folder, data, n_measured_tokens, n_calibration_tokens, n_questions)
        measured.write_texts()
        found: Figures = {}

        def measure(name: str, run: Callable[[], Figures]) -> None:
            kept = folder / "rows" / f"{name}.json" if work else None
            if name in rows or name == "original" or (kept is not None and kept.exists()):
                found[name] = kept_or_measured(kept, run)

        measure("original", lambda: measured.answers(measured.source()))
        for name in ROWS:
            measure(name, partial(measured.quantized, ROWS[name]))
        for name, kind in GGUF.items():
            measure(name, partial(measured.gguf, kind))
        for name in QUICKSTART if quickstart else ():
            assert quickstart is not None
            measure(name, partial(_quickstart, quickstart, QUICKSTART[name]))
        before = found.pop("original")
        for row in found.values():
            if "answers" in row:
                row["points"] = _points(before["answers"], row.pop("answers"))
        return found


@dataclass(frozen=True)
class _Measurement:
    """The published model and what it is measured on."""

    folder: Path
    data: Path
    n_measured_tokens: int
    n_calibration_tokens: int
    n_questions: int

    def write_texts(self) -> None:
        """WikiText-2 as plain files."""
        for name, file in (("train", "wikitext2_train_5k"), ("test", "test")):
            text = gzip.decompress((self.data / "wikitext-2" / f"{file}.txt.gz").read_bytes())
            (self.folder / f"{name}.txt").write_bytes(text)

    def settings(self, row: Mapping[str, Any]) -> Any:
        """The configuration of a row."""
        from parakit.compression.quantization.config import QuantizeConfig

        every = {"n_measured_tokens": self.n_measured_tokens, "text": (str(self.folder / "test.txt"),)}
        calibration = {
            "n_calibration_tokens": self.n_calibration_tokens,
            "calibration": (str(self.folder / "train.txt"),),
        }
        return QuantizeConfig.parse(
            {**row, **every, **(calibration if {"method", "size_budget"} & set(row) else {})}
        )

    def source(self) -> tuple[Any, Any]:
        """The published model in float32, and its tokenizer."""
        from parakit.checkpoints import load_model
        from parakit.checkpoints.import_export import import_model

        place = self.folder / "model"
        if not place.exists():
            import_model(str(find_source("smollm2")), place)
        return load_model(place, dtype="float32")

    def suites(self) -> dict[str, list[Question]]:
        """The questions of each suite."""
        return {suite: questions(self.data, suite, self.n_questions) for suite in SUITES}

    def answers(self, loaded: tuple[Any, Any]) -> Figures:
        """Which questions of each suite a model has right."""
        return {"answers": {name: answered_right(*loaded, drawn) for name, drawn in self.suites().items()}}

    def quantized(self, row: Mapping[str, Any]) -> Figures:
        """The figures of a row of `ROWS`."""
        from parakit.compression.quantization.quantize import quantize_model

        model, tokenizer = self.source()
        figures = quantize_model(model, tokenizer, self.folder, self.settings(row))
        return _with_speed_ratio(figures) | {"sensitivity": []} | self.answers((model, tokenizer))

    def gguf(self, kind: str) -> Figures:
        """llama.cpp's own file of the same weights, read back by Parakit: what its rounding changes."""
        from parakit.checkpoints import load_model
        from parakit.checkpoints.import_export import import_model
        from parakit.compression.quantization.measurement import OriginalOutputs
        from parakit.compression.quantization.text import find_windows

        file = find_source("smollm2").parents[1] / "smollm2-gguf" / f"{kind}.gguf"
        model, tokenizer = self.source()
        _, windows = find_windows(model, tokenizer, self.folder, self.settings({"bits": 4}))
        outputs = OriginalOutputs(model, windows.token_ids)
        n_bytes = 4 * sum(parameter.numel() for parameter in model.parameters())
        del model
        place = self.folder / kind
        loaded = load_model(place if place.exists() else import_model(str(file), place), dtype="float32")
        divergence = outputs.compare(loaded[0]).figures()
        size = {
            "original_bytes": n_bytes,
            "bytes": file.stat().st_size,
            "ratio": n_bytes / file.stat().st_size,
        }
        assert math.isfinite(divergence["kl"])
        return {"size": size, "divergence": divergence} | self.answers(loaded)


def _quickstart(folder: Path, row: Mapping[str, Any]) -> Figures:
    """The last chat model of a quickstart build, on what its build held out and on its own suites."""
    from parakit.checkpoints import load_model
    from parakit.compression.quantization.config import QuantizeConfig
    from parakit.compression.quantization.quantize import SuiteSettings, quantize_model
    from parakit.inference.folder_settings import is_chat_tuned
    from parakit.primer.config import PrimerSuitesConfig
    from parakit.recipe.build_folder import resolve_model_folder
    from parakit.stages.quantization.running import recorded_suites

    place = resolve_model_folder(folder)
    model, tokenizer = load_model(place, dtype="float32")
    suites = SuiteSettings(recorded_suites(place) or PrimerSuitesConfig(), is_chat_tuned(place))
    figures = quantize_model(model, tokenizer, place, QuantizeConfig.parse(row), suites)
    before, after = figures["suites"]["original"], figures["suites"]["quantized"]
    points = 100 * sum(after[name] - before[name] for name in before) / len(before)
    return _with_speed_ratio(figures) | {"sensitivity": [], "suite_points": points}


def _with_speed_ratio(figures: Figures) -> Figures:
    speed = figures["speed"]
    ratio = speed["tokens_per_second"] / speed["original_tokens_per_second"]
    return figures | {"speed": speed | {"ratio": ratio}}


def _points(before: Mapping[str, list[bool]], after: Mapping[str, list[bool]]) -> Figures:
    """Of each suite and of all questions together: points, change with its 95 % interval, and the answers that differ."""
    from parakit.evaluation.intervals import paired_difference

    def change(one: list[bool], other: list[bool]) -> Figures:
        paired = asdict(paired_difference(one, other))
        found = {"original": 100 * sum(one) / len(one), "change": 100 * paired["difference"]}
        found |= {"low": 100 * paired["low"], "high": 100 * paired["high"], "n": len(one)}
        return found | {"n_different": sum(a != b for a, b in zip(one, other, strict=True))}

    everything = change([*chain(*before.values())], [*chain(*after.values())])
    return {"all": everything} | {name: change(before[name], after[name]) for name in before}
