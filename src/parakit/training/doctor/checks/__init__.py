"""The checks, a module for each subject. Importing this package registers them in the order in which they run."""

# isort: off
from parakit.training.doctor import corpus as corpus
from parakit.training.doctor.checks import compatibility as compatibility
from parakit.training.doctor.checks import labels as labels
from parakit.training.doctor.checks import conversations as conversations
from parakit.training.doctor.checks import examples as examples
from parakit.training.doctor.checks import masked_tokens as masked_tokens
from parakit.training.doctor.checks import pairs as pairs
from parakit.training.doctor.checks import rankings as rankings
from parakit.training.doctor.checks import replay as replay
from parakit.training.doctor.checks import batches as batches
from parakit.training.doctor.checks import parameters as parameters
from parakit.training.doctor.checks import attention as attention
from parakit.training.doctor.checks import gradients as gradients
from parakit.training.doctor.checks import objectives as objectives
from parakit.training.doctor.checks import packing as packing  # after what would change its losses too

__all__: list[str] = []
