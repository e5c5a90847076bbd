"""DPO of a published model of 135M parameters against trl at equal settings: losses, speed and memory.

Each side is a process of its own, the sides take turns: the same folder, the same pairs of public instructions in every
step, AdamW in float32, one thread, nothing compiled, no gradient checkpointing. What the reference says to the pairs is
computed once before, by both.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from benchmarks.harness import DATA, work_folder
from benchmarks.quality.real_models.data import imported
from benchmarks.registry import NO_TARGET, Figures, benchmark
from benchmarks.speed.against_trl import Sides
from benchmarks.speed.peers.peers import python_of

N_PAIRS, STEPS, RATE, MAX_SEQ_LEN = 8, 5, 5e-6, 512
FILE = "llms_from_scratch_instruct/instruction-data-with-preference.json.gz"


@benchmark("published_dpo", {
    "ratio.rows_per_processor_second": (">= 1.2", "pairs per processor second over trl's"),
    "ratio.rows_per_second": (NO_TARGET, "pairs per second over trl's"),
    "ratio.peak_memory_mib": ("<= 0.7", "peak memory of the process over trl's"),
    "largest_difference": ("<= 1e-4", "largest difference of the losses"),
})  # fmt: skip
def published_dpo(
    *, data: Path = DATA, repeats: int = 3, work: Path | None = None, peer: Path | None = None
) -> Figures:
    """`data` holds the folder llms_from_scratch_instruct. `peer` is a Python that has trl; without one, an environment is
    made under .peers/.
    """
    from benchmarks.speed.peers import tuning_workload
    from parakit.data.preferences import read_preferences
    from parakit.data.row_report import RowReport

    with work_folder(work) as folder:
        imported("smollm2", folder / "lm")
        rankings = (one for _, one in read_preferences(data / FILE, RowReport()))
        tuning_workload.write_pairs(folder, islice(rankings, N_PAIRS))
        settings = {
            "n_rows": N_PAIRS,
            "n_steps": 1 + STEPS,
            "learning_rate": RATE,
            "max_seq_len": MAX_SEQ_LEN,
        }
        tuning_workload.write_settings(folder, tuning_workload.SETTINGS | settings)
        return Sides(folder, peer or python_of("trl")).compare("dpo", repeats)
