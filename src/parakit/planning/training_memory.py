"""A training step in numbers: what activations and Muon's update hold, from shapes. Imports no torch.

Activations are what the backward pass reads: of a gated block about four vectors of the feed-forward's width for each
token, and ten of the model's width (counted with hooks on saved tensors; a test compares). On a CPU the kernels compute
two of the former again, one where adapters train, and norms keep nothing but their inputs (`model/kernels/training.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from parakit.model.config import ModelConfig
from parakit.model.transformer_config import TransformerConfig
from parakit.planning.runs import stacks_of

FLOAT = 4  # bytes of a number
PROCESS_BYTES = 400_000_000  # Python, PyTorch and its buffers, the tokenizer, where it is not measured
# Numbers of a chunk of logits, as in `training/objectives/fused_head_loss.py`: small next to a small output matrix.
CHUNK, QUANTIZED_CHUNK = 2**23, 2**21
SMALL_MATRIX, SMALL_CHUNK = 2**20, 2**20
COMPUTED_AGAIN = 2**18  # numbers of a norm that is not kept, as in `model/kernels/training.py`
STACKED_NUMBERS = 2**22  # of matrices that Muon updates at a time, as in `training/optimizers/muon.py`


@dataclass(frozen=True)
class StepShape:
    """A training step in numbers: of a plan, or counted of a model that exists. `n_tokens` pass the network at a time, padding
    included, and logits of `n_predicted` of them are computed.
    """

    config: ModelConfig
    weight_bytes: int
    n_trained: int
    optimizer: str
    n_tokens: int
    n_predicted: int
    frozen: bool = False
    """Whether adapters train, and not the matrices themselves."""
    quantized: bool = False
    checkpointing: bool = False
    accumulates: bool = False
    """Whether several micro-batches add up their gradients."""
    half: bool = False
    max_whole_logits: int = 0
    """Up to so many logits exist as a whole; more are computed in chunks."""
    keeps_logits: bool = False
    """Whether of whole logits one tensor is kept, and changed in place."""
    teacher: ModelConfig | None = None
    """Of a teacher, whose logits are there, too."""
    on_card: bool = False
    process_bytes: int = PROCESS_BYTES


def attention_widths(stack: TransformerConfig) -> tuple[int, int]:
    """Of all query heads, and of all key-value heads."""
    return stack.n_heads * stack.head_dim, stack.n_kv_heads * stack.head_dim


def drops_norms(stack: TransformerConfig, n_tokens: int, frozen: bool, bias: bool) -> bool:
    """Whether the kernels compute the norm before several products again in the backward pass. `bias`: that of the
    products, which are PyTorch's where it trains.
    """
    return stack.norm == "rms" and (frozen or not bias) and n_tokens * stack.d_model >= COMPUTED_AGAIN


def chunk_numbers(step: StepShape) -> int:
    """The most logits that exist at a time where they are computed in chunks."""
    if step.quantized:
        return QUANTIZED_CHUNK
    return SMALL_CHUNK if step.config.vocab_size * step.config.d_token <= SMALL_MATRIX else CHUNK


def activation_floats(
    stack: TransformerConfig, frozen: bool, checkpointing: bool, kernels: bool = False, n_tokens: int = 1
) -> int:
    """Numbers of one of `n_tokens` that the backward pass reads. Frozen matrices need no inputs, but adapters on them do."""
    wide, narrow = attention_widths(stack)
    inner = 4 if stack.gated else 2
    around = (4 if frozen else 6) * stack.d_model + 3 * wide + 4 * narrow
    if kernels and stack.gated and stack.activation == "silu":
        inner = 3 if frozen else 2
        placed = wide + narrow if stack.query_key_norm else 0  # rotation alone needs no inputs
        around = 4 * stack.d_model + 2 * wide + 2 * narrow + placed
        for bias in (stack.attention_bias, stack.feed_forward_bias):
            around -= stack.d_model * drops_norms(stack, n_tokens, frozen, bias)
    hidden = inner * stack.d_ff * (stack.n_active_experts if stack.n_experts else 1)
    block = hidden + around
    ends = (2 if kernels else 5) * stack.d_model
    if checkpointing:
        return ends + block + stack.n_layers * stack.d_model
    return ends + stack.n_layers * block


def muon_stack(config: ModelConfig) -> tuple[int, int]:
    """Numbers of the matrices that Muon updates at a time, where they are most, and of their products with themselves."""
    groups: dict[tuple[int, int], int] = {}
    for number, stack in enumerate(stacks_of(config)):
        wide, narrow, d = *attention_widths(stack), stack.d_model
        attention = [(d, wide), (d, narrow), (d, narrow), (d, wide)] * (2 if number else 1)
        for layer in range(stack.n_layers):
            experts = stack.has_experts(layer)
            width, n = ((stack.d_expert or stack.d_ff), stack.n_experts) if experts else (stack.d_ff, 1)
            matrices = [(1, shape) for shape in attention]
            matrices += [(n, (d, width))] * (3 if stack.gated else 2)
            for count, (rows, columns) in matrices:
                key, numbers = (min(rows, columns), max(rows, columns)), count * rows * columns
                at_once = max(numbers, STACKED_NUMBERS // numbers * numbers)
                groups[key] = min(groups.get(key, 0) + numbers, at_once)
    stacks = [(numbers, numbers * short // long) for (short, long), numbers in groups.items()]
    return max(stacks, key=lambda stack: 3 * stack[0] + 2 * stack[1])


def muon_floats(config: ModelConfig) -> int:
    """Numbers that Muon holds in an update: gradients, two iterates, and two products of these."""
    stacked, square = muon_stack(config)
    return 3 * stacked + 2 * square
