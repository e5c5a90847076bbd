"""The memory that a training step takes from the C library's heap: its tensors, in the order in which they are made and freed,
replayed on a model of the allocator. Imports no torch.

A process that trains on a CPU keeps freed memory for the next tensors (`training/threads.py`), so what it holds is the end of
its heap. The hole of a freed tensor does not take another one of its size until a neighbour is free, too (`allocator.py`). So
results that are dropped between those that are kept (the sum of a residual path, a matrix's product before its low-rank update)
stay as holes, and gradients that are larger than a layer's activations find no place between them. Both are a tenth to a half
of what a step holds.

The order is that of the default block with the kernels of training; other kinds are replayed as the nearest one. Left out:
tensors of a few numbers a token.
"""

from __future__ import annotations

from functools import lru_cache

from parakit.model.config import ModelConfig
from parakit.model.transformer_config import TransformerConfig
from parakit.planning.heap.allocator import Heap
from parakit.planning.runs import lora_parameters, stacks_of
from parakit.planning.training_memory import (
    FLOAT,
    StepShape,
    attention_widths,
    chunk_numbers,
    drops_norms,
    muon_stack,
)

REPLAYED_LAYERS = 40  # of a deeper stack two depths are replayed, and the rest follows from their difference


@lru_cache(maxsize=4096)
def heap_bytes(step: StepShape) -> int:
    """The most of the heap that a step takes besides weights and optimizer state, without what its small objects cut up."""
    deepest = max(stack.n_layers for stack in stacks_of(step.config))
    if deepest <= REPLAYED_LAYERS:
        return _replayed(step, deepest)
    apart = REPLAYED_LAYERS // 4
    some, fewer = (_replayed(step, n) for n in (REPLAYED_LAYERS, REPLAYED_LAYERS - apart))
    return some + (deepest - REPLAYED_LAYERS) * max(0, some - fewer) // apart


def _replayed(step: StepShape, n_layers: int) -> int:
    replay = _Replay(step)
    for _ in range(1 + step.accumulates):
        replay.micro_batch(n_layers)
    replay.update()
    return replay.heap.high


class _Replay:
    """One step. Tensors that a block keeps are listed by name."""

    def __init__(self, step: StepShape) -> None:
        self.step, self.heap = step, Heap()
        self.n = step.n_tokens
        self.gradients: list[int] = []
        self.rank = max(1, round(step.n_trained / lora_parameters(step.config, 1))) if step.frozen else 0
        self.kernels = not (step.on_card or step.half)

    def take(self, numbers: float) -> int:
        """A tensor of so many numbers."""
        return self.heap.take(int(FLOAT * numbers))

    def drop(self, *places: int | None) -> None:
        """Free those that exist."""
        for place in places:
            if place is not None:
                self.heap.drop(place)

    def passing(self, numbers: float) -> None:
        """A tensor that is freed at once."""
        self.drop(self.take(numbers))

    def micro_batch(self, n_layers: int) -> None:
        """Forward, head, and backward."""
        frozen, checkpointing = self.step.frozen, self.step.checkpointing
        kept: list[tuple[TransformerConfig, bool, int, dict[str, int]]] = []
        ends = []  # what comes out of each stack
        for number, stack in enumerate(stacks_of(self.step.config)):
            x = self.take(self.n * stack.d_model)
            for _ in range(min(n_layers, stack.n_layers)):
                block = self.block(stack, x, number > 0, frozen)
                if checkpointing:
                    self.free_block(block)
                kept.append((stack, number > 0, x, block))
                x = block["result"]
            ends.append(x)
        last = self.take(self.n * stack.d_model)
        gradient = self.norm_back(stack, self.head(stack, last))
        self.drop(last, *ends)
        for stack, cross, x, block in reversed(kept):
            if checkpointing:
                block = self.block(stack, x, cross, frozen)
                self.drop(block.pop("result"))
            n_before = len(self.gradients)
            gradient = self.block_back(stack, block, cross, gradient)
            if checkpointing:  # gradients are copied, and what was found is freed
                found, self.gradients = self.gradients[n_before:], self.gradients[:n_before]
                self.gradients += [self.heap.copy(one) for one in found]
                self.drop(*found)
            self.drop(x)
        if not frozen:
            self.passing(
                stack.vocab_size * stack.d_token
            )  # the gradient of the embedding, added to the head's
        self.drop(gradient)

    def block(self, stack: TransformerConfig, x: int, cross: bool, frozen: bool) -> dict[str, int]:
        """The forward pass of one block of `x`."""
        kept: dict[str, int] = {}
        for name in ("self", "cross")[: 1 + cross]:
            x = self.attention(stack, kept, name, x, frozen)
        return self.feed_forward(stack, kept, x, frozen)

    def attention(
        self, stack: TransformerConfig, kept: dict[str, int], name: str, x: int, frozen: bool
    ) -> int:
        n, d, wide, narrow = self.n, stack.d_model, *attention_widths(stack)
        kept[f"{name} normed"] = self.take(n * d)
        for part, width in (("query", wide), ("key", narrow), ("value", narrow)):
            kept[f"{name} {part}"] = self.matrix(kept, f"{name} {part}", width, frozen)
        self.drop_norm(stack, kept, f"{name} normed", stack.attention_bias)
        for part, width in (("query", wide), ("key", narrow)):
            placed = self.take(n * width)
            if not stack.query_key_norm:  # rotation alone needs no inputs
                self.drop(kept.pop(f"{name} {part}"))
            kept[f"{name} placed {part}"] = placed
        if not self.kernels and stack.n_heads > stack.n_kv_heads:
            kept[f"{name} repeated"] = self.take(2 * n * wide)
        kept[f"{name} attended"] = self.take(n * wide)
        kept[f"{name} normalizer"] = self.take(n * stack.n_heads)
        written = self.matrix(kept, f"{name} output", d, frozen)
        total = kept[f"{name} sum"] = self.take(n * d)
        self.drop(written)
        return total

    def feed_forward(
        self, stack: TransformerConfig, kept: dict[str, int], x: int, frozen: bool
    ) -> dict[str, int]:
        n, d = self.n, stack.d_model
        width = stack.d_ff * (stack.n_active_experts if stack.n_experts else 1)
        kept["normed"] = self.take(n * d)
        if stack.gated:
            kept["gate"] = self.matrix(kept, "gate", width, frozen)
        kept["up"] = self.matrix(kept, "up", width, frozen)
        if stack.gated:
            self.drop_norm(stack, kept, "normed", stack.feed_forward_bias)
        again = self.kernels and stack.gated and stack.activation == "silu"
        if stack.gated and not again:
            kept["activated"] = self.take(n * width)
        inner = self.take(n * width)
        written = self.matrix(kept, "down", d, frozen)
        if again and not frozen:
            self.drop(inner)
        else:
            kept["inner"] = inner
        kept["result"] = self.take(n * d)
        self.drop(written)
        return kept

    def matrix(self, kept: dict[str, int], name: str, width: int, frozen: bool) -> int:
        """A product; of a frozen matrix with its low-rank update, which makes a second one."""
        product = self.take(self.n * width)
        if not frozen:
            return product
        kept[f"{name} low"] = self.take(self.n * self.rank)
        total = self.take(self.n * width)
        self.drop(product)
        return total

    def matrix_back(self, kept: dict[str, int], name: str, n_in: int, n_out: int, first: bool = True) -> int:
        """The gradients of a matrix, and of its input, which is made for the first of several matrices of one input."""
        if not self.step.frozen:
            found = self.take(self.n * n_in) if first else -1
            self.gradients.append(self.take(n_in * n_out))
            return found
        low = self.take(self.n * self.rank)
        self.gradients += [self.take(n_out * self.rank), self.take(n_in * self.rank)]
        found, through = self.take(self.n * n_in), self.take(self.n * n_in)
        self.drop(low, through, kept.pop(f"{name} low", None))
        return found

    def shared_back(self, kept: dict[str, int], n_in: int, *matrices: tuple[str, int, int]) -> int:
        """Of several matrices of one input: name, features, and the gradient of their results, which is freed."""
        total = -1
        for name, width, gradient in matrices:
            found = self.matrix_back(kept, name, n_in, width, first=total < 0)
            if self.step.frozen:
                self.drop(gradient)
                if total >= 0:
                    self.drop(found)
            total = found if total < 0 else total
        if not self.step.frozen:
            self.drop(*(gradient for _, _, gradient in matrices))
        return total

    def drop_norm(self, stack: TransformerConfig, kept: dict[str, int], name: str, bias: bool) -> None:
        if self.kernels and drops_norms(stack, self.n, self.step.frozen, bias):
            self.drop(kept.pop(name))

    def norm_back(self, stack: TransformerConfig, gradient: int, normed: int | None = None) -> int:
        self.drop(normed)
        found = self.take(self.n * stack.d_model)
        self.drop(gradient)
        return found

    def joined(self, stack: TransformerConfig, path: int, residual: int) -> int:
        """Two gradients of one vector as one."""
        total = self.take(self.n * stack.d_model)
        self.drop(path, residual)
        return total

    def block_back(self, stack: TransformerConfig, kept: dict[str, int], cross: bool, gradient: int) -> int:
        """The backward pass of one block; the gradient of its result is freed, that of its input returned."""
        gradient = self.feed_forward_back(stack, kept, gradient)
        for name in ("cross", "self")[1 - cross :]:
            self.drop(kept.pop(f"{name} sum"))
            gradient = self.attention_back(stack, kept, name, gradient)
        self.free_block(kept)
        return gradient

    def feed_forward_back(self, stack: TransformerConfig, kept: dict[str, int], gradient: int) -> int:
        n, d = self.n, stack.d_model
        width = stack.d_ff * (stack.n_active_experts if stack.n_experts else 1)
        kept.pop("result", None)  # the input of the block behind it
        if "inner" in kept:
            of_inner = self.matrix_back(kept, "down", width, d)
            self.drop(kept.pop("inner"))
            slopes = [self.take(n * width) for _ in range(1 + stack.gated)]
            self.drop(of_inner)
        else:
            inner, *slopes = (self.take(n * width) for _ in range(3))
            of_inner = self.matrix_back(kept, "down", width, d)
            self.drop(inner, of_inner)
        names = ("gate", "up") if stack.gated else ("up",)
        self.drop(*(kept.pop(name, None) for name in (*names, "activated")))
        pairs = [(name, width, slope) for name, slope in zip(names, slopes, strict=True)]
        normed = kept.pop("normed", None) or self.take(n * d)
        of_input = self.shared_back(kept, d, *reversed(pairs))
        return self.joined(stack, self.norm_back(stack, of_input, normed), gradient)

    def attention_back(self, stack: TransformerConfig, kept: dict[str, int], name: str, gradient: int) -> int:
        n, d, wide, narrow = self.n, stack.d_model, *attention_widths(stack)
        attended = self.matrix_back(kept, f"{name} output", wide, d)
        query, key, value = (self.take(n * width) for width in (wide, narrow, narrow))
        held = ("attended", "normalizer", "placed query", "placed key", "value", "repeated")
        self.drop(attended, *(kept.pop(f"{name} {part}", None) for part in held))
        found = []
        for part, width, slope in (("key", narrow, key), ("query", wide, query)):
            found.append(self.take(n * width))
            self.drop(slope, kept.pop(f"{name} {part}", None))
        normed = kept.pop(f"{name} normed", None) or self.take(n * d)
        of_input = self.shared_back(
            kept, d, (f"{name} value", narrow, value), (f"{name} key", narrow, found[0]),
            (f"{name} query", wide, found[1]),
        )  # fmt: skip
        return self.joined(stack, self.norm_back(stack, of_input, normed), gradient)

    def free_block(self, kept: dict[str, int]) -> None:
        """All but the result, which is the input of the next block."""
        self.drop(*(place for name, place in kept.items() if name != "result"))
        for name in [name for name in kept if name != "result"]:
            del kept[name]

    def head(self, stack: TransformerConfig, last: int) -> int:
        """The output matrix, the loss and their gradients: returns the gradient of the last vectors `last`."""
        step, n, d, vocab_size = self.step, self.step.n_predicted, stack.d_token, stack.vocab_size
        chosen = self.take(n * d) if n < self.n else None
        if step.teacher is not None:
            self.teacher(step.teacher)
        if n * vocab_size <= step.max_whole_logits:
            gradient = self.whole_logits(n * vocab_size, step.keeps_logits)
            found = self.take(n * d)
            if not step.frozen:
                self.gradients.append(self.take(vocab_size * d))
            self.drop(gradient)
        else:
            found = self.take(n * d)
            matrix = None if step.frozen else self.take(vocab_size * d)
            self.chunks(n, vocab_size, chunk_numbers(step))
            if matrix is not None:  # the gradient of a function is copied where it arrives
                self.gradients.append(self.take(vocab_size * d))
                self.drop(matrix)
        if chosen is None:
            return found
        self.drop(chosen)
        spread = self.take(self.n * d)
        self.drop(found)
        return spread

    def whole_logits(self, n_logits: int, in_place: bool) -> int:
        """Logits, their log-softmax, and two gradients; or one tensor, whose exponentials are taken in chunks."""
        logits = self.take(n_logits)
        if in_place:
            self.passing(min(n_logits, chunk_numbers(self.step)))
            self.drop(logits)
            return self.take(min(n_logits, chunk_numbers(self.step)))
        kept = self.take(n_logits)
        self.drop(logits)
        first, second = self.take(n_logits), self.take(n_logits)
        self.drop(first, kept)
        return second

    def chunks(self, n: int, vocab_size: int, numbers: int) -> None:
        rows = max(1, numbers // vocab_size)
        for start in range(0, n, rows):
            size = min(rows, n - start) * vocab_size
            if self.step.teacher is None:
                self.passing(size)
                continue
            # student's logits, both distributions, the divergence's factors, the labels' loss, and three gradients
            logits, scaled, student = (self.take(size) for _ in range(3))
            self.drop(scaled)
            other, scaled, given = (self.take(size) for _ in range(3))
            self.drop(other, scaled)
            likely, difference, chosen = (self.take(size) for _ in range(3))
            self.drop(difference)
            self.passing(size)
            labels, *slopes = (self.take(size) for _ in range(4))
            self.drop(logits, student, given, likely, chosen, labels, *slopes)

    def teacher(self, config: ModelConfig) -> None:
        """A forward pass that keeps nothing."""
        for stack in stacks_of(config):
            x = self.take(self.n * stack.d_model)
            for _ in range(min(2, stack.n_layers)):
                block = self.block(stack, x, cross=False, frozen=False)
                self.free_block(block)
                self.drop(x)
                x = block["result"]
            self.drop(x)

    def update(self) -> None:
        """What Muon makes of the largest stack of matrices."""
        if self.step.optimizer == "muon" and not self.step.frozen:
            stacked, square = muon_stack(self.step.config)
            gradients, x = self.take(stacked), self.take(stacked)
            for _ in range(2):
                products = self.take(square), self.take(square)
                following = self.take(stacked)
                self.drop(x, *products)
                x = following
            self.drop(gradients, x)
        self.drop(*self.gradients)
        self.gradients.clear()
