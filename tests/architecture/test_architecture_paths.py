"""The way from a command to the work is short: few frames of Parakit's between `main` and the model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from package import SRC

MAX_FRAMES = 7
MAX_FILES = 5
MAX_ENGINE_FRAMES = (
    12  # the engine's own are the tokens of a request, a stream, a step, a pass of all rows, a pass
)


def package_frames() -> list[str]:
    """Parakit's frames on the stack, outermost first, each as `file:function`."""
    frame, frames = sys._getframe(1), []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(SRC):
            frames.append(f"{path.relative_to(SRC)}:{frame.f_code.co_name}")
        frame = frame.f_back
    return frames[::-1]


def test_from_generate_to_the_forward_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from parakit.checkpoints import save_model
    from parakit.cli.main import main
    from parakit.common import Lineage
    from parakit.model import DecoderConfig, LanguageModel
    from parakit.model.backbones import Stack
    from parakit.tokens import TokenizerConfig, train_tokenizer

    tokenizer = train_tokenizer(iter(["the small bird sings. " * 20]), TokenizerConfig(vocab_size=280))
    sizes = {"d_model": 8, "n_layers": 1, "n_heads": 1, "n_kv_heads": 1, "head_dim": 8, "d_ff": 8}
    model = LanguageModel(DecoderConfig(vocab_size=tokenizer.vocab_size, max_seq_len=16, **sizes))
    save_model(model, tokenizer, tmp_path / "model", Lineage("model"))
    forward, stacks = Stack.forward, []

    def recorded(self, *args, **kwargs):
        stacks.append([*package_frames(), "model/backbones.py:forward"])
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(Stack, "forward", recorded)
    monkeypatch.setenv("PARAKIT_KERNELS", "off")
    assert (
        main(["generate", str(tmp_path / "model"), "the bird", "--max-new-tokens", "2", "--device", "cpu"])
        == 0
    )
    assert stacks[0][0] == "cli/main.py:main"
    assert len(stacks[0]) <= MAX_ENGINE_FRAMES, stacks[0]


def test_from_pretrain_to_backward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from parakit.cli.main import main
    from parakit.stages.data import make_corpus, make_shards, make_tokenizer
    from parakit.stages.data_config import CorpusConfig
    from parakit.tokens import TokenizerConfig
    from tests.sample_text import sentences

    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(sentences(i, 3) for i in range(40)))
    corpus = make_corpus(CorpusConfig(paths=(str(text),), validation_fraction=0.2), tmp_path / "corpus")
    make_tokenizer(corpus, TokenizerConfig(vocab_size=300), tmp_path / "tokenizer")
    shards = make_shards(corpus, tmp_path / "tokenizer", tmp_path / "shards")
    backward, stacks = torch.Tensor.backward, []

    def recorded(self):
        stacks.append(package_frames())
        backward(self)

    monkeypatch.setattr(torch.Tensor, "backward", recorded)
    arguments = ["pretrain", str(shards), "--tokenizer", str(tmp_path / "tokenizer"), "--size", "40k"]
    arguments += ["--max-steps", "2", "--batch-tokens", "64", "--max-seq-len", "32", "--compile", "off"]
    assert main([*arguments, "--output", str(tmp_path / "model"), "--device", "cpu"]) == 0
    stack = stacks[-1]  # the doctor's own come first
    assert stack[0] == "cli/main.py:main"
    assert stack[-1] == "training/loop.py:accumulate_gradients"
    assert len(stack) <= MAX_FRAMES, stack
    assert len({frame.partition(":")[0] for frame in stack}) <= MAX_FILES, stack
