"""How many times as fast a student is as its teacher, and how many parameters it has, in turn and round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import Figures, paired


def share_of_parameters(student: Path, teacher: Path) -> float:
    """All parameters counted, embeddings too."""
    from parakit.checkpoints.loading import read_config

    return read_config(student).n_params()["total"] / read_config(teacher).n_params()["total"]


def speed(student: Path, teacher: Path, repeats: int = 5) -> Figures:
    """Ratios of tokens a second of processor time: reading rows, and writing where the model writes."""
    import torch

    from parakit.checkpoints import load_model
    from parakit.inference.config import SamplingConfig
    from parakit.inference.generation.decoding import generate_ids

    ids = torch.randint(5, 300, (16, 96), generator=torch.Generator().manual_seed(0))
    config = SamplingConfig(temperature=0.0, max_new_tokens=64)

    def side(path: Path) -> Callable[[], Mapping[str, float]]:
        model: Any = load_model(path)[0]

        def run() -> Mapping[str, float]:
            found = {}
            with torch.inference_mode():
                started = time.process_time()
                for _ in range(3):
                    model(ids)
                found["forward"] = 3 * ids.numel() / (time.process_time() - started)
            if model.config.family == "decoder":
                started = time.process_time()
                answers = generate_ids(model, ids[:8, :32].tolist(), config)
                found["generation"] = sum(map(len, answers)) / (time.process_time() - started)
            return found

        run()  # warm
        return run

    return paired(side(student), side(teacher), repeats)["ratio"]
