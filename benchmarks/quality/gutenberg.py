"""28 books, one command, half an hour: `parakit build --text gutenberg --time 30min` end to end.

The size is the build's own choice for the time. Bits per byte are those of the held-out split and of
WikiText-2's test text, which is another kind of English.
"""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

from benchmarks.harness import DATA, run_parakit
from benchmarks.registry import NO_TARGET, Figures, benchmark


@benchmark("gutenberg", {
    "minutes": ("<= 30", "minutes of the whole build"),
    "held_out_bits_per_byte": (NO_TARGET, "bits per byte of held-out pages"),
    "wikitext_2_test_bits_per_byte": (NO_TARGET, "bits per byte of WikiText-2's test text"),
    "parameters": (NO_TARGET, "parameters that the build chose"),
    "tokens": (NO_TARGET, "tokens that it trained on"),
})  # fmt: skip
def gutenberg(*, data: Path = DATA, time: str = "30min") -> Figures:
    """`data` holds the folders gutenberg and wikitext-2."""
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "wikitext-2-test.txt"
        other.write_bytes(gzip.decompress((data / "wikitext-2" / "test.txt.gz").read_bytes()))
        options = f"--exclude SOURCE.txt --time {time} --builds {folder} --json --evaluate-text".split()
        run = run_parakit("build", *options, other, "--text", data / "gutenberg")
    stage = run.figures["stages"]["pretrain"]
    return {
        "minutes": run.seconds / 60,
        "held_out_bits_per_byte": stage["bits_per_byte"],
        "wikitext_2_test_bits_per_byte": run.figures["evaluations"][0]["bits_per_byte"],
        "parameters": stage["parameters"],
        "tokens": stage["tokens"],
        "tokens_per_second": stage["tokens_per_second"],
        "share_of_peak": stage["share_of_peak"],
        "peak_memory_mib": run.peak_memory_mib,
    }
