"""The memory of a training step, counted from shapes, against what the backward pass really keeps."""

from __future__ import annotations

import pytest
import torch

from parakit.common import UserError
from parakit.common.hardware import available_memory
from parakit.model import DecoderConfig, LanguageModel
from parakit.model.adapters import attach, make_lora
from parakit.model.adapters.config import LoraConfig
from parakit.model.backbones import set_checkpointing
from parakit.model.kernels import load_kernels
from parakit.model.kernels import training as kernels
from parakit.model.quantized import QuantScheme, make_plan, quantize_modules
from parakit.planning import training_memory
from parakit.planning.heap import replay
from parakit.planning.heap.allocator import Heap
from parakit.planning.run_memory import step_bytes
from parakit.planning.training_memory import StepShape, activation_floats
from parakit.stages.defaults import memory
from parakit.training.config import TextTrainingConfig, resolve
from parakit.training.micro_batches import MicroBatch
from parakit.training.objectives import next_token

T = 96


def tiny(adapted: bool = False) -> LanguageModel:
    torch.manual_seed(0)
    shape = {"d_model": 48, "n_layers": 3, "n_heads": 6, "n_kv_heads": 2, "head_dim": 8, "d_ff": 128}
    model = LanguageModel(DecoderConfig(vocab_size=64, max_seq_len=T, **shape))
    for block in model.trunk.blocks:  # zeros hide what a gradient reads
        for parameter in block.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    if adapted:
        attach(model, make_lora(model, LoraConfig(rank=1)))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora" in name)
    return model


def batch() -> MicroBatch:
    ids = torch.arange(2 * T).reshape(2, T) % 64
    return MicroBatch(ids, ids, None, None, None, 2 * T)


def kept_bytes(model: LanguageModel) -> int:
    """Bytes that autograd keeps for the backward pass, weights left out."""
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = next_token(model, batch())
    assert loss.requires_grad
    return sum(kept.values())


def compute_norms_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a larger model."""
    for module in (kernels, training_memory):
        monkeypatch.setattr(module, "COMPUTED_AGAIN", 1)


def test_both_sides_compute_the_same_norms_again() -> None:
    assert kernels.COMPUTED_AGAIN == training_memory.COMPUTED_AGAIN


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("adapted", [False, True])
def test_activations_are_what_the_backward_pass_keeps(
    adapted: bool, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(adapted)
    if again:
        compute_norms_again(monkeypatch)
    if load_kernels() is not None:
        floats = activation_floats(model.config, adapted, False, kernels=True)
        assert 4 * 2 * T * floats == pytest.approx(kept_bytes(model), rel=0.05)
    monkeypatch.setenv("PARAKIT_KERNELS", "off")
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    n = sum(p.numel() for p in model.parameters())
    shape = StepShape(
        model.config, 4 * n, n_trained, "adamw", 2 * T, 2 * T, frozen=adapted, on_card=True
    )  # without what a CPU's allocator adds
    need = step_bytes(shape)
    assert need.activations == pytest.approx(kept_bytes(model), rel=0.2)
    assert need.weights == 4 * n
    assert need.optimizer == 2 * need.gradients == 8 * n_trained


def most_allocated(model: LanguageModel) -> int:
    """Bytes of tensors that exist at most in a step's forward and backward pass, on top of those before it."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        next_token(model, batch()).backward()
    found: list[tuple[int, int]] = []
    nodes = [*profile.profiler.kineto_results.experimental_event_tree()]  # type: ignore[union-attr]
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if str(node.tag).endswith("Allocation"):
            found.append((node.start_time_ns, node.extra_fields.alloc_size))
    held = most = 0
    for _, size in sorted(found):
        held += size
        most = max(most, held)
    return most


class Counted(Heap):
    """The bytes of tensors, without the holes between them."""

    held = most = 0

    def take(self, n_bytes: int) -> int:
        place = super().take(n_bytes)
        Counted.held += self._taken[place]
        Counted.most = max(Counted.most, Counted.held)
        return place

    def drop(self, place: int) -> None:
        Counted.held -= self._taken[place]
        super().drop(place)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(("adapted", "checkpointing"), [(False, False), (True, False), (False, True)])
def test_a_replayed_step_holds_what_a_step_holds(
    adapted: bool, checkpointing: bool, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if again:
        compute_norms_again(monkeypatch)
    if load_kernels() is None:
        pytest.skip("the order of a step is that of the compiled kernels")
    model = tiny(adapted)
    set_checkpointing(model, int(checkpointing))
    measured = most_allocated(model)
    monkeypatch.setattr(replay, "Heap", Counted)
    monkeypatch.setattr(Counted, "held", 0)
    monkeypatch.setattr(Counted, "most", 0)
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    shape = {"frozen": adapted, "checkpointing": checkpointing}
    step = StepShape(model.config, 0, n_trained, "adamw", 2 * T, 2 * T, process_bytes=1, **shape)
    assert replay.heap_bytes.__wrapped__(step) > Counted.most == pytest.approx(measured, rel=0.1)


def test_a_hole_takes_no_tensor_of_its_size_until_a_neighbour_is_free() -> None:
    """glibc's aligned allocation asks for more than a tensor, so the third tensor goes to the end."""
    places = Heap()
    first, _ = places.take(64_000), places.take(64_000)
    places.drop(first)
    assert places.take(64_000) > 2 * 64_000
    assert places.take(63_000) < 64_000


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for on in (False, True):
        model = tiny()
        set_checkpointing(model, on)
        next_token(model, batch()).backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def fitted(
    available: float, monkeypatch: pytest.MonkeyPatch, model: LanguageModel | None = None, **settings: object
):
    monkeypatch.setattr(memory, "TOLD_PARAMETERS", 0)
    model = model or tiny()
    training = TextTrainingConfig.parse({"optimizer": "adamw", "device": "cpu"} | settings)
    plan = resolve(
        training, learning_rate=0.01, embedding_learning_rate=0.01, batch_tokens=64 * T, max_seq_len=T,
        n_train_tokens=100_000,
    )  # fmt: skip
    return memory.fit_memory("tune", model, model.config, plan, training, available=int(available))


def test_a_run_takes_the_rows_that_fit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    plenty = fitted(2e9, monkeypatch)
    assert plenty.micro_batch_size == plenty.n_rows == 64
    assert not plenty.gradient_checkpointing
    assert "tune: about 0.5 GB at the peak (weights 0.00" in capsys.readouterr().err
    scarce = fitted(0.53e9, monkeypatch)
    assert scarce.micro_batch_size < 64
    assert scarce.n_rows == 64


def test_blocks_on_quantized_weights_are_computed_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny()
    quantize_modules(model, make_plan(model, QuantScheme(bits=8)))
    attach(model, make_lora(model, LoraConfig(rank=1)))
    plan = fitted(2e9, monkeypatch, model)
    assert (plan.gradient_checkpointing, plan.compile) == (True, "off")
    assert "gradient checkpointing" in capsys.readouterr().err
    assert not fitted(2e9, monkeypatch, model, gradient_checkpointing="off").gradient_checkpointing


def test_a_run_that_does_not_fit_is_refused_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether what it says helps is asserted for any amount of memory in `test_common_advice.py`."""
    with pytest.raises(UserError) as caught:
        fitted(0.2e9, monkeypatch)
    assert "0.2 GB can be used" in str(caught.value)
    assert (
        caught.value.hint == "take a smaller model, or a machine with more memory"
    )  # no adapter fits either
    with pytest.raises(UserError, match="can be used") as caught:
        fitted(0.53e9, monkeypatch, micro_batch_size=64, gradient_checkpointing="off")
    assert caught.value.hint == "lower micro_batch_size to 1"


def test_memory_that_is_left_is_known_on_linux() -> None:
    left = available_memory()
    assert left is None or left > 0
