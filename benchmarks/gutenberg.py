"""28 books, one command, half an hour: `parakit build --text gutenberg --time 30min` end to end.

The size is the build's own choice for the time. Bits per byte are those of the held-out split and of
WikiText-2's test text, which is another kind of English.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from pathlib import Path

from benchmarks.harness import DATA, SHOWN, Figures, report, run_parakit


def main(words: list[str]) -> None:
    """Build and write the result."""
    parser = argparse.ArgumentParser(prog="make bench NAME=gutenberg", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--time", default="30min")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "wikitext-2-test.txt"
        other.write_bytes(gzip.decompress((arguments.data / "wikitext-2" / "test.txt.gz").read_bytes()))
        options = (
            f"--exclude SOURCE.txt --time {arguments.time} --builds {folder} --json --evaluate-text".split()
        )
        run = run_parakit("build", *options, other, "--text", arguments.data / "gutenberg")
    stage = run.figures["stages"]["pretrain"]
    figures: Figures = {
        "minutes": run.seconds / 60,
        "held_out_bits_per_byte": stage["bits_per_byte"],
        "wikitext_2_test_bits_per_byte": run.figures["evaluations"][0]["bits_per_byte"],
        "parameters": stage["parameters"],
        "tokens": stage["tokens"],
        "tokens_per_second": stage["tokens_per_second"],
        "share_of_peak": stage["share_of_peak"],
        "peak_memory_mib": run.peak_memory_mib,
    }
    shown = ("held_out_bits_per_byte", "wikitext_2_test_bits_per_byte", "parameters", "tokens")
    report("gutenberg", figures, {"minutes": "<= 30"} | dict.fromkeys(shown, SHOWN))
