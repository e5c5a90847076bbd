"""`parakit bench`: how fast a model reads and writes on this machine, against what its memory allows."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field
from rich.console import Console
from rich.table import Table

import parakit
from parakit.cli.rendering.arguments import parse_command
from parakit.common.files import JsonObject
from parakit.common.formatting import byte_size, number, percent
from parakit.common.hardware import describe_hardware, peak_memory, reset_peak_memory
from parakit.common.progress import log
from parakit.common.settings import Config

if TYPE_CHECKING:
    from parakit.inference.speed import Speed

Positive = Annotated[int, Field(ge=1, le=10_000_000)]


class BenchCommandConfig(Config):
    """Measure prefill and decoding speed, memory and the floor that the machine's memory sets, on random tokens."""

    model: tyro.conf.Positional[str] = Field(description="A model folder, or the folder of a build.")
    prompt_tokens: tuple[Positive, ...] = Field(
        default=(128,), min_length=1, description="Prompt lengths to measure, in tokens."
    )
    new_tokens: Positive = Field(default=64, description="New tokens of each measurement.")
    n_sequences: tuple[Positive, ...] = Field(
        default=(1,), min_length=1, description="Numbers of sequences to decode at once."
    )
    repeats: Positive = Field(default=3, description="Repeats of each measurement; the median counts.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: str = Field(default="auto", description="auto, float32, bfloat16, float16.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit bench` with these arguments; 0 when everything was measured."""
    command = parse_command(BenchCommandConfig, argv, "parakit bench")
    started = time.perf_counter()
    model = parakit.load(command.model, device=command.device, dtype=command.dtype)
    seconds_to_load = time.perf_counter() - started
    from parakit.inference.capabilities import require_capability
    from parakit.inference.speed import measure_speed, memory_bandwidth, weight_bytes

    network = model.network
    require_capability(network, "generate")
    device = next(network.parameters()).device
    bandwidth = memory_bandwidth(device)
    reset_peak_memory()  # what the measurement itself read is no part of it
    speeds = []
    for speed in measure_speed(
        network,  # type: ignore[arg-type]  # checked by `require_capability`
        n_sequences=command.n_sequences,
        prompt_lengths=command.prompt_tokens,
        n_new_tokens=command.new_tokens,
        repeats=command.repeats,
        bandwidth=bandwidth,
    ):
        if not command.as_json:
            log(f"measured {speed.n_rows} at once, prompt {speed.n_prompt_tokens}")
        speeds.append(speed)
    figures: JsonObject = {
        "model": str(model.path),
        "n_params": network.config.n_params()["total"],
        "weight_bytes_per_token": weight_bytes(network),  # type: ignore[arg-type]
        "file_bytes": sum(file.stat().st_size for file in Path(model.path).glob("*.safetensors")),
        "seconds_to_load": seconds_to_load,
        "bandwidth_bytes_per_second": bandwidth,
        "peak_memory_bytes": peak_memory(),
        "speeds": [asdict(speed) | {"share_of_floor": speed.share_of_floor} for speed in speeds],
        "hardware": describe_hardware(),
    }
    if command.as_json:
        print(json.dumps(figures, ensure_ascii=False))
    else:
        _show(figures, speeds)
    return 0


def _show(figures: JsonObject, speeds: Sequence["Speed"]) -> None:
    console = Console()
    console.print(
        f"{number(figures['n_params'])} parameters, {byte_size(figures['weight_bytes_per_token'])} of weights read for"
        f" each token; memory reads {byte_size(figures['bandwidth_bytes_per_second'])}/s;"
        f" loaded in {figures['seconds_to_load']:.2f} s; peak memory {byte_size(figures['peak_memory_bytes'])}",
        highlight=False,
    )
    table = Table(
        "batch", "prompt", "prefill tokens/s", "decode tokens/s", "floor tokens/s", "of the floor", box=None
    )
    for column in table.columns:
        column.justify = "right"
    for speed in speeds:
        table.add_row(
            number(speed.n_rows),
            number(speed.n_prompt_tokens),
            number(speed.prefill_tokens_per_second),
            number(speed.decode_tokens_per_second),
            number(speed.floor_tokens_per_second),
            percent(speed.share_of_floor),
        )
    console.print(table)
    console.print(
        "floor: the tokens that memory allows, by bytes of weights and cache a token and the bandwidth measured here",
        highlight=False,
    )
