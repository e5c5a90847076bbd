"""The tuned lens: an affine translator for every place, trained so that its prediction is the model's own.

Behind layer l the residual stream h becomes h + A_l h + b_l before the final norm and the output matrix; A_l and b_l start
at zero, which is the logit lens, and minimise KL(output || place) over positions of a text (Belrose et al. 2023, eq. 11).
Adam with a rate that falls to zero. The model itself does not change. A translator is a folder with its lineage.

A decoder is trained on windows of the text, an encoder on windows with the trained positions masked, an encoder-decoder on
what it writes for windows. Every tenth window is held out. Windows and positions of a step are a function of seed and step,
so an interrupted run resumes exactly.

Shapes: L translators (the places before the last), T tokens, P positions of a step, D d_model.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parakit.checkpoints.adapters.base_model import base_fingerprint, base_folder, is_adapter_folder
from parakit.checkpoints.safetensors_io import read_header, read_tensors, write_tensors
from parakit.common.artifacts import LINEAGE, Lineage, open_artifact, require_new_output, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log, progress
from parakit.common.seeds import rng
from parakit.common.settings import config_digest
from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.inference.batching import evaluation_mode
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.seq_to_seq import generate_sequences, target_stop_ids
from parakit.inference.loaded_model import Model
from parakit.inference.prediction.batches import context_window
from parakit.inspection.config import TunedLensConfig
from parakit.inspection.inputs import ModelInput
from parakit.inspection.lenses.logit_lens import divergence, read_out, require_output_matrix, residual_stream
from parakit.model.heads import MaskedLanguageModel, SequenceToSequence, TokenPredictor
from parakit.tokens.tokenizer.special_tokens_template import special_tokens_template

KIND, FILE = "tuned_lens", "translators.safetensors"
SAVE_SECONDS = 30.0
HELD_OUT_EVERY, MAX_HELD_OUT = 10, 16  # windows
MAX_TARGET = 32  # tokens that an encoder-decoder writes for a window


@dataclass
class TunedLens:
    """Translators of one model: weight (L, D, D) and bias (L, D), which are added to the identity."""

    weight: Tensor
    bias: Tensor
    figures: JsonObject
    """Of the training: see `train_tuned_lens`."""

    def translate(self, place: int, vectors: Tensor) -> Tensor:
        """Vectors (..., D) of a place to those of the last one; those of the last place as they are."""
        if place == len(self.weight):
            return vectors
        weight, bias = self.weight[place].to(vectors), self.bias[place].to(vectors)
        return vectors + vectors @ weight.T + bias

    @classmethod
    def identity(cls, n_layers: int, d_model: int, device: torch.device | str = "cpu") -> TunedLens:
        """Translators that change nothing: the logit lens."""
        zeros = torch.zeros(n_layers, d_model, d_model, device=device)
        return cls(zeros, torch.zeros(n_layers, d_model, device=device), {})


def load_tuned_lens(folder: str | Path, model: Model) -> TunedLens:
    """The translators of a folder, on the model's device. Raises `UserError` for those of another model."""
    folder = Path(folder)
    artifact = open_artifact(folder, KIND)
    recorded, actual = artifact.lineage["config"]["model"], _fingerprint(model)
    if any(recorded.get(key) != actual.get(key) for key in recorded.keys() & {"digest", "sha256"}):
        raise UserError(
            f"{folder}: these translators were trained for {recorded.get('path')}, and {model.path} has other weights",
            "train translators for this model: parakit inspect lens MODEL --train-on TEXT --out FOLDER",
        )
    tensors = dict(read_tensors(read_header(folder / FILE), next(model.network.parameters()).device))
    return TunedLens(tensors["weight"].clone(), tensors["bias"].clone(), artifact.lineage["result"])


def train_tuned_lens(
    model: Model,
    paths: Sequence[str],
    out: str | Path,
    *,
    config: TunedLensConfig | None = None,
    overwrite: bool = False,
) -> TunedLens:
    """Train translators on the text of `paths` and write them to the folder `out`.

    An interrupted run leaves OUT.training-DIGEST.safetensors next to `out`, and the same call resumes from it. The figures
    are the steps, the windows, the held-out `kl_logit_lens` and `kl_tuned_lens` by place in nats (the last place's are
    zero), and the seconds. Raises `UserError` for a text of less than two windows and as `require_output_matrix`.
    """
    config, out, started = config or TunedLensConfig(), Path(out), time.monotonic()
    network = require_output_matrix(model)
    require_new_output(out, overwrite=overwrite)
    windows = text_windows(model, paths, config)
    held_out = windows[::HELD_OUT_EVERY][:MAX_HELD_OUT]
    trained = [one for number, one in enumerate(windows) if number % HELD_OUT_EVERY]
    settings = {"tuned_lens": config.model_dump(), "text": sorted(paths)} | {"model": _fingerprint(model)}
    digest = config_digest(settings | {"windows": [list(one.token_ids) for one in windows]})
    state_path = out.with_name(f"{out.name}.training-{digest[:12]}.safetensors")
    lens = _trained(model, network, trained, config, state_path)
    before, after = (held_out_kl(model, held_out, config, one) for one in (None, lens))
    lens.figures = {
        "steps": config.max_steps,
        "windows": len(trained),
        "held_out_windows": len(held_out),
        "kl_logit_lens": before.tolist(),
        "kl_tuned_lens": after.tolist(),
        "seconds": round(time.monotonic() - started, 2),
    }
    parents: list[str | Path] = [model.path] if (model.path / LINEAGE).is_file() else []
    lineage = Lineage(KIND, settings, parents, config.seed, lens.figures)
    with writing_artifact(out, lineage, overwrite) as folder:
        write_tensors({"weight": lens.weight.cpu(), "bias": lens.bias.cpu()}, folder / FILE)
    state_path.unlink(missing_ok=True)
    return lens


def text_windows(model: Model, paths: Sequence[str], config: TunedLensConfig) -> list[ModelInput]:
    """The text of files as inputs of `seq_len` tokens, documents cut without overlap, the rest of each left out."""
    network, tokenizer = require_output_matrix(model), model.tokenizer
    seq_len = min(config.seq_len, context_window(model.network.config))
    template = special_tokens_template(tokenizer, model.network.config.family, 1)
    n_text = seq_len - template.n_tokens
    documents = read_documents(TextConfig(paths=tuple(paths), deduplicate=False), ReadReport())
    rows: list[list[int]] = []
    for ids in tokenizer.encode_bulk([document.text for document in documents]):
        rows += [
            template.apply(ids[start : start + n_text]).tolist()
            for start in range(0, len(ids) - n_text + 1, n_text)
        ]
    if len(rows) < 2:
        raise UserError(
            f"{', '.join(paths)}: has {len(rows)} windows of {seq_len} tokens, and translators need 2 or more",
            "give more text, or a smaller --seq-len",
        )
    if not isinstance(network, SequenceToSequence):
        return [ModelInput(tuple(row), ()) for row in rows]
    rows = rows[
        : config.max_steps * HELD_OUT_EVERY // (HELD_OUT_EVERY - 1) + 2
    ]  # a target costs a generation
    greedy = SamplingConfig(temperature=0.0, max_new_tokens=MAX_TARGET)
    targets = generate_sequences(network, rows, greedy, target_stop_ids(tokenizer))
    start_id = network.config.decoder_start_id
    return [
        ModelInput((start_id, *target), (), source_ids=tuple(row))
        for row, target in zip(rows, targets, strict=True)
    ]


@torch.no_grad()
def held_out_kl(
    model: Model, windows: Sequence[ModelInput], config: TunedLensConfig, lens: TunedLens | None
) -> np.ndarray:
    """(R,) nats: the mean KL(output || place) over drawn positions of every window; None is the logit lens."""
    network, n = require_output_matrix(model), 0
    total: Any = 0.0
    for number, window in enumerate(windows):
        states = _states(model, network, window, config, "held out", number)
        output = read_out(network, states[-1]).log_softmax(-1)
        found = [
            divergence(output, read_out(network, _moved(lens, place, vectors)).log_softmax(-1)).sum()
            for place, vectors in enumerate(states)
        ]
        total, n = total + torch.stack(found), n + states.shape[1]
    mean: np.ndarray = (total / n).double().cpu().numpy()
    mean[-1] = 0.0
    return mean


def _moved(lens: TunedLens | None, place: int, vectors: Tensor) -> Tensor:
    return vectors if lens is None else lens.translate(place, vectors)


def _trained(
    model: Model,
    network: TokenPredictor,
    windows: Sequence[ModelInput],
    config: TunedLensConfig,
    state_path: Path,
) -> TunedLens:
    """Run the steps, from the saved state where there is one."""
    n_places, _, d_model = residual_stream(model, windows[0]).shape
    lens = TunedLens.identity(n_places - 1, d_model, next(network.parameters()).device)
    state = _State(lens, config)
    first = state.load(state_path)
    if first:
        log(f"tuned lens: resuming after step {first} of {config.max_steps}")
    saved = time.monotonic()
    with _frozen(network), evaluation_mode(network), progress("tuned lens", config.max_steps) as bar:
        bar.resume_at(first)
        for step in range(first, config.max_steps):
            window = windows[int(rng(config.seed, "tuned lens", step).integers(len(windows)))]
            kl = state.step(network, _states(model, network, window, config, "step", step), step)
            bar.advance(1, KL=f"{kl:.3f}")
            if time.monotonic() - saved > SAVE_SECONDS:
                state.save(state_path, step + 1)
                saved = time.monotonic()
    return lens


class _State:
    """Translators and the moments of Adam (Kingma and Ba 2015)."""

    def __init__(self, lens: TunedLens, config: TunedLensConfig) -> None:
        self.lens, self.config = lens, config
        self.parameters = (lens.weight, lens.bias)
        self.optimizer = torch.optim.Adam(self.parameters, lr=config.learning_rate)

    def step(self, network: TokenPredictor, states: Tensor, step: int) -> float:
        """One step on states (R, P, D); returns the mean KL over the places in nats."""
        for parameter in self.parameters:
            parameter.requires_grad_(True)
            parameter.grad = None
        with torch.no_grad():
            output = read_out(network, states[-1]).log_softmax(-1)
        total = 0.0
        for place, vectors in enumerate(states[:-1]):  # one graph at a time: logits are the largest tensors
            logs = read_out(network, self.lens.translate(place, vectors)).log_softmax(-1)
            kl = divergence(output, logs).mean()
            kl.backward()
            total += float(kl.detach())
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * (1 - step / self.config.max_steps)
        self.optimizer.step()
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        return total / (len(states) - 1)

    def save(self, path: Path, step: int) -> None:
        """Write translators, moments and the step, whole or not at all."""
        tensors = {"weight": self.lens.weight, "bias": self.lens.bias, "step": torch.tensor(step)}
        for name, parameter in zip(("weight", "bias"), self.parameters, strict=True):
            moments: dict[str, Any] = self.optimizer.state[parameter]
            tensors |= {f"{name}.{key}": value for key, value in moments.items()}
        partial = path.with_name(path.name + ".partial")
        write_tensors(tensors, partial)
        partial.replace(path)

    def load(self, path: Path) -> int:
        """The step after which the saved run stopped; 0 without one."""
        if not path.is_file():
            return 0
        tensors = {name: tensor.clone() for name, tensor in read_tensors(read_header(path))}
        for name, parameter in zip(("weight", "bias"), self.parameters, strict=True):
            parameter.copy_(tensors[name])
            prefix = f"{name}."
            self.optimizer.state[parameter] = {
                key.removeprefix(prefix): value.to(parameter.device) if value.ndim else value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
        return int(tensors["step"])


def _states(
    model: Model,
    network: TokenPredictor,
    window: ModelInput,
    config: TunedLensConfig,
    label: str,
    number: int,
) -> Tensor:
    """The residual stream (R, P, D) at positions drawn for this step; those of an encoder are masked."""
    n_tokens = len(window.token_ids)
    n = min(
        config.positions_per_step,
        max(1, n_tokens // 4) if isinstance(network, MaskedLanguageModel) else n_tokens,
    )
    chosen = np.sort(rng(config.seed, label, number).permutation(n_tokens)[:n])
    if isinstance(network, MaskedLanguageModel) and model.tokenizer.mask_id is not None:
        ids = np.array(window.token_ids)
        ids[chosen] = model.tokenizer.mask_id
        window = ModelInput(tuple(ids.tolist()), ())
    with torch.no_grad():
        return residual_stream(model, window)[:, torch.from_numpy(chosen)].clone()


@contextlib.contextmanager
def _frozen(network: TokenPredictor) -> Iterator[None]:
    """No gradients of the model's own parameters inside the block."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _fingerprint(model: Model) -> JsonObject:
    """What identifies the model: its digest, or the sha256 of its weights."""
    folder = model.path
    if is_adapter_folder(folder) and not (folder / LINEAGE).is_file():
        folder = base_folder(folder)
    return base_fingerprint(folder) | {"path": str(model.path)}
