"""Every objective against a derivation of its own in float64, value and gradient, and against torch's and
scikit-learn's where they have it.

A reference works out the loss and its gradient in the model's outputs by hand, in numpy; that gradient led back
through the model must be the objective's.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, mean_squared_error
from torch import Tensor
from torch.nn import functional

from parakit.model.layers.experts import load_balancing_loss, router_z_loss
from parakit.training.micro_batches import DistributionMicroBatch, TextPairMicroBatch, to_micro_batch
from parakit.training.objectives import contrastive, distribution_matching, next_token, sequence_to_sequence
from tests.training.tiny_tasks import (
    TASKS,
    VOCAB_SIZE,
    PairBatch,
    TextPairBatch,
    cut,
    gradients,
    language_model,
    padded,
    real,
    woken,
)

CPU = torch.device("cpu")
SMOOTHED = 0.1  # as the task "pairs" has it
TEMPERATURE = 0.05  # contrastive's own
Reference = tuple[float, Tensor, np.ndarray]  # loss, the output it is a function of, its gradient there


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def token_logits(model: Any, micro: Any) -> Tensor:
    """(B, T, V) by the model's own forward pass, every place through the head."""
    if hasattr(micro, "source_ids"):
        source = model.encode(
            micro.source_ids, attention_mask=micro.source_mask, position_ids=micro.source_position_ids
        )
        return model.logits(
            model.hidden(
                micro.input_ids, source=source, source_mask=micro.cross_mask,
                attention_mask=micro.attention_mask, position_ids=micro.position_ids,
            )
        )  # fmt: skip
    return model(micro.input_ids, position_ids=micro.position_ids, attention_mask=micro.attention_mask)


def counted_places(micro: Any) -> np.ndarray:
    mask = micro.loss_mask
    return np.ones(micro.target_ids.shape, bool) if mask is None else mask.numpy()


def of_tokens(model: Any, micro: Any, smoothing: float = 0.0) -> Reference:
    output = token_logits(model, micro)
    p, counted = softmax(output.detach().numpy()), counted_places(micro)
    wanted = np.eye(VOCAB_SIZE)[micro.target_ids.numpy()] * (1 - smoothing) + smoothing / VOCAB_SIZE
    loss = -(wanted * np.log(p))[counted].sum()
    return float(loss), output, (p - wanted) * counted[..., None]


def of_classes(model: Any, micro: Any) -> Reference:
    output = model(micro.input_ids, micro.attention_mask, token_type_ids=micro.token_type_ids)
    p, labels = softmax(output.detach().numpy()), micro.labels.numpy()
    counted = np.ones(labels.shape, bool) if micro.loss_mask is None else micro.loss_mask.numpy()
    wanted = np.eye(p.shape[-1])[labels]
    return (
        float(-np.log(p[wanted > 0]).reshape(labels.shape)[counted].sum()),
        output,
        (p - wanted) * counted[..., None],
    )


def of_scores(model: Any, micro: Any) -> Reference:
    output = model(micro.input_ids, micro.attention_mask, token_type_ids=micro.token_type_ids)
    apart = output.detach().numpy()[:, 0] - micro.labels.numpy().astype(np.float64)
    return float((apart**2).sum()), output, 2 * apart[:, None]


def of_text_pairs(model: Any, micro: TextPairMicroBatch, symmetric: bool = True) -> Reference:
    output = torch.stack(
        [model(micro.first_ids, micro.first_mask), model(micro.second_ids, micro.second_mask)]
    )  # (2, B, D)
    f, g = output.detach().numpy()
    lengths = [np.linalg.norm(x, axis=1, keepdims=True) for x in (f, g)]
    a, b = f / lengths[0], g / lengths[1]
    n = len(a)
    scores = np.where(micro.same.numpy() & ~np.eye(n, dtype=bool), -np.inf, a @ b.T / TEMPERATURE)
    there, back = softmax(scores), softmax(scores.T)
    losses = [-np.log(np.diag(there)).sum(), -np.log(np.diag(back)).sum()]
    of_score = there - np.eye(n)
    if symmetric:
        losses, of_score = [sum(losses) / 2], (of_score + (back - np.eye(n)).T) / 2
    towards = [of_score @ b / TEMPERATURE, of_score.T @ a / TEMPERATURE]
    back_through = [
        (d - x * (d * x).sum(1, keepdims=True)) / length
        for d, x, length in zip(towards, (a, b), lengths, strict=True)
    ]
    return float(losses[0]), output, np.stack(back_through)


def of_distributions(
    model: Any, micro: DistributionMicroBatch, direction: str = "forward", heat: float = 1.0
) -> Reference:
    output, counted = token_logits(model, micro), counted_places(micro)
    q = softmax(output.detach().numpy() / heat)
    p = softmax(micro.target_logits.double().numpy() / heat)
    if direction == "forward":
        each, gradient = (p * np.log(p / q)).sum(-1), (q - p) / heat
    else:
        each = (q * np.log(q / p)).sum(-1)
        gradient = q * (np.log(q / p) - each[..., None]) / heat
    loss = each[counted].sum() * heat**2
    return float(loss), output, gradient * counted[..., None] * heat**2


REFERENCES: dict[str, Callable[[Any, Any], Reference]] = {
    "next_token": of_tokens,
    "prefix": of_tokens,
    "masked": of_tokens,
    "span": of_tokens,
    "pairs": lambda model, micro: of_tokens(model, micro, SMOOTHED),
    "classify": of_classes,
    "tag": of_classes,
    "regress": of_scores,
    "embed": of_text_pairs,
    "forward": of_distributions,
    "reverse": lambda model, micro: of_distributions(model, micro, "reverse", 2.0),
}
ALL = pytest.mark.parametrize("name", list(REFERENCES))


def made(name: str, n_rows: int = 6, first_row: int = 2) -> tuple[Any, Any]:
    """A model in float64 and a batch of numpy arrays."""
    return woken(TASKS[name].model().double()), TASKS[name].source().rows(first_row, n_rows)


def loss_and_gradients(name: str, model: Any, *batches: Any) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    losses = [TASKS[name].objective(model, to_micro_batch(batch, CPU)) for batch in batches]
    for loss in losses:
        loss.backward()
    return sum(loss.item() for loss in losses), gradients(model)


def assert_same_gradients(got: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert got.keys() == wanted.keys()
    scale = max(float(g.abs().max()) for g in wanted.values())
    assert scale > 0
    assert max(float((got[n] - wanted[n]).abs().max()) for n in wanted) <= tolerance * scale


@ALL
def test_an_objective_is_its_derivation_in_value_and_gradient(name: str) -> None:
    model, batch = made(name)
    loss, got = loss_and_gradients(name, model, batch)
    model.zero_grad()
    wanted_loss, output, gradient = REFERENCES[name](model, to_micro_batch(batch, CPU))
    output.backward(torch.from_numpy(gradient))
    assert loss == pytest.approx(wanted_loss, rel=1e-6)
    assert_same_gradients(got, gradients(model), 1e-6)


@pytest.mark.parametrize("name", [name for name in REFERENCES if name != "embed"])
@pytest.mark.parametrize("sizes", [[3, 3], [1] * 6, [5, 1], [2, 4]])
def test_a_gradient_does_not_depend_on_how_the_batch_was_cut(name: str, sizes: list[int]) -> None:
    model, whole = made(name)
    edges = np.cumsum([0, *sizes]).tolist()
    parts = [cut(whole, begin, end) for begin, end in pairwise(edges)]
    wanted_loss, wanted = loss_and_gradients(name, model, whole)
    loss, got = loss_and_gradients(name, model, *parts)
    assert sum(part.n_counted for part in parts) == whole.n_counted
    assert loss == pytest.approx(wanted_loss, rel=1e-9)
    assert_same_gradients(got, wanted, 1e-9)


def test_contrastive_negatives_are_those_of_the_micro_batch() -> None:
    model, whole = made("embed")
    together, _ = loss_and_gradients("embed", model, whole)
    halves, _ = loss_and_gradients("embed", model, cut(whole, 0, 3), cut(whole, 3, 6))
    alone, _ = loss_and_gradients("embed", model, *(cut(whole, i, i + 1) for i in range(6)))
    assert together > halves > alone == 0


@ALL
def test_dropout_is_on_in_training_and_off_in_evaluation(name: str) -> None:
    task = TASKS[name]
    model, batch = woken(task.model(dropout=0.3)), to_micro_batch(task.source().rows(0, 4), CPU)

    def twice(mode: bool) -> list[float]:
        return [task.objective(model.train(mode), batch).item() for _ in range(2)]

    assert len(set(twice(True))) == 2
    assert len(set(twice(False))) == 1


@ALL
def test_losses_are_float32_under_half_precision(name: str) -> None:
    task = TASKS[name]
    model, batch = woken(task.model()), to_micro_batch(task.source().rows(0, 4), CPU)
    wanted = task.objective(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = task.objective(model, batch)
    assert rough.dtype == wanted.dtype == torch.float32
    assert rough.item() == pytest.approx(wanted.item(), rel=0.1)


# ---- what torch and scikit-learn have


def test_smoothing_is_torchs_over_the_vocabulary() -> None:
    model, batch = made("pairs")
    micro = to_micro_batch(batch, CPU)
    logits, counted = token_logits(model, micro), micro.loss_mask
    for smoothing in (0.0, 0.1, 0.5):
        wanted = functional.cross_entropy(
            logits[counted], micro.target_ids[counted], reduction="sum", label_smoothing=smoothing
        )
        assert sequence_to_sequence(smoothing)(model, micro).item() == pytest.approx(wanted.item(), rel=1e-12)


@pytest.mark.parametrize("heat", [1.0, 3.0])
def test_divergence_is_torchs_kl_div(heat: float) -> None:
    model, batch = made("forward")
    micro = to_micro_batch(batch, CPU)
    actual = (token_logits(model, micro)[micro.loss_mask] / heat).log_softmax(-1)
    given = (micro.target_logits[micro.loss_mask].double() / heat).log_softmax(-1)
    forward = functional.kl_div(actual, given, reduction="sum", log_target=True) * heat**2
    reverse = functional.kl_div(given, actual, reduction="sum", log_target=True) * heat**2
    assert distribution_matching("forward", heat)(model, micro).item() == pytest.approx(
        forward.item(), rel=1e-6
    )
    assert distribution_matching("reverse", heat)(model, micro).item() == pytest.approx(
        reverse.item(), rel=1e-6
    )


def test_tokens_that_a_given_distribution_rules_out_do_no_harm() -> None:
    model, batch = made("forward")
    batch.target_logits[..., 5:] = -np.inf
    loss, found = loss_and_gradients("forward", model, batch)
    assert np.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in found.values())


def test_label_losses_are_scikit_learns() -> None:
    model, batch = made("classify")
    p = softmax(model(*_read(batch)).detach().numpy())
    wanted = log_loss(batch.labels, p, labels=[0, 1, 2]) * len(p)
    assert loss_and_gradients("classify", model, batch)[0] == pytest.approx(wanted, rel=1e-9)
    model, batch = made("tag")
    p, counted = softmax(model(*_read(batch)).detach().numpy()), batch.loss_mask
    wanted = log_loss(batch.labels[counted], p[counted], labels=[0, 1, 2]) * batch.n_counted
    assert loss_and_gradients("tag", model, batch)[0] == pytest.approx(wanted, rel=1e-9)
    model, batch = made("regress")
    wanted = mean_squared_error(batch.labels, model(*_read(batch))[:, 0].detach().numpy()) * len(batch.labels)
    assert loss_and_gradients("regress", model, batch)[0] == pytest.approx(wanted, rel=1e-6)


def _read(batch: Any) -> tuple[Tensor, Tensor]:
    """What `Classifier` takes, for texts that are all of type 0."""
    if batch.token_type_ids is not None:
        batch.token_type_ids[:] = 0
    return torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)


# ---- contrastive: one direction, and equal texts


def test_one_direction_alone_is_its_derivation() -> None:
    model, batch = made("embed")
    micro = to_micro_batch(batch, CPU)
    wanted, output, gradient = of_text_pairs(model, micro, symmetric=False)
    output.backward(torch.from_numpy(gradient))
    expected = gradients(model)
    model.zero_grad()
    loss = contrastive(symmetric=False)(model, micro)
    loss.backward()
    assert loss.item() == pytest.approx(wanted, rel=1e-6)
    assert_same_gradients(gradients(model), expected, 1e-6)


def test_equal_texts_are_no_negatives_of_each_other() -> None:
    one, two, three = np.array([3, 4, 5]), np.array([6, 7]), np.array([8, 9, 10, 11])

    def loss(*pairs: tuple[np.ndarray, np.ndarray]) -> float:
        first, second = ([pair[side] for pair in pairs] for side in (0, 1))
        batch = TextPairBatch(padded(first), real(first), padded(second), real(second), len(pairs))
        return loss_and_gradients("embed", model, batch)[0]

    model, _ = made("embed")
    assert loss((one, two), (one, two)) == pytest.approx(0, abs=1e-12)
    assert loss((one, two), (three, two)) == pytest.approx(0, abs=1e-12), "the same positive"
    assert loss((one, two), (one, three)) == pytest.approx(0, abs=1e-12), "two positives of one text"
    assert loss((one, two), (three, one)) > 0, "it is still a wrong answer to the second text"
    assert loss((one, two), (three, np.array([6, 7, 7]))) > 1e-3


# ---- experts


def test_experts_add_their_balance_and_the_size_of_their_logits() -> None:
    task = TASKS["experts"]
    model, batch = woken(task.model()), task.source().rows(0, 4)
    micro = to_micro_batch(batch, CPU)
    assert micro.real_mask is not None, "there must be padding"
    with_routers = task.objective(model.train(), micro)
    routings = [block.feed_forward.routing for block in model.trunk.blocks]
    wanted = 0.05 * load_balancing_loss(routings, micro.real_mask) + 0.01 * router_z_loss(
        routings, micro.real_mask
    )
    plain = task.objective(model.eval(), micro)
    assert (with_routers - plain).item() == pytest.approx(batch.n_counted * wanted.item(), rel=1e-4)
    with_routers.backward()
    assert all(block.feed_forward.router.weight.grad.any() for block in model.trunk.blocks)


@pytest.mark.parametrize("name", ["masked", "span", "classify", "embed"])
def test_experts_are_balanced_under_every_objective(name: str) -> None:
    task = TASKS[name]
    shape = {"n_experts": 4, "d_expert": 8, "balance_coef": 0.0}
    micro = to_micro_batch(task.source().rows(0, 4), CPU)
    torch.manual_seed(0)
    plain = task.objective(woken(task.model(**shape)), micro).item()
    torch.manual_seed(0)
    balanced = task.objective(woken(task.model(**shape | {"balance_coef": 0.5})), micro).item()
    n_passes = 2 if name == "embed" else 1
    assert n_passes * 0.5 * micro.n_counted < balanced - plain < n_passes * 4 * 0.5 * micro.n_counted * 2


def test_padding_does_not_weigh_in_the_balance() -> None:
    task = TASKS["experts"]
    model, batch = woken(task.model()).train(), task.source().rows(0, 4)
    before = next_token(model, to_micro_batch(batch, CPU)).item()
    batch.input_ids[batch.document_ids < 0] = 17
    assert next_token(model, to_micro_batch(batch, CPU)).item() == pytest.approx(before, rel=1e-6)


def test_a_pair_without_a_source_counts_nothing_and_does_no_harm() -> None:
    model, _ = made("span")
    empty = PairBatch(
        source_ids=np.zeros((2, 4), np.int64), source_mask=np.array([[True] * 4, [False] * 4]),
        input_ids=np.zeros((2, 3), np.int64), target_ids=np.full((2, 3), 5),
        loss_mask=np.array([[True] * 3, [False] * 3]), n_counted=3,
    )  # fmt: skip
    _, found = loss_and_gradients("span", model, empty)
    assert all(torch.isfinite(gradient).all() for gradient in found.values())


def test_a_batch_that_nobody_knows_is_named() -> None:
    with pytest.raises(TypeError, match="dict"):
        to_micro_batch({}, CPU)


def test_a_decoder_reads_a_prefix_both_ways_and_the_rest_one_way() -> None:
    batch = TASKS["prefix"].source().rows(0, 4)
    mask = to_micro_batch(batch, CPU).attention_mask[:, 0].numpy()
    for row, query, key in np.ndindex(mask.shape):
        together = batch.document_ids[row, query] == batch.document_ids[row, key]
        assert mask[row, query, key] == (together and (key <= query or batch.prefix_mask[row, key]))
    model = woken(language_model())
    assert next_token(model, to_micro_batch(batch, CPU)).item() > 0
