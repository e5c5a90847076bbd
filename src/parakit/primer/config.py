"""Settings of the primer, the built-in closed world.

The same settings give the same documents, conversations and suites on any machine and in any process.
"""

from __future__ import annotations

from pydantic import Field

from parakit.common.settings import Config


class PrimerConfig(Config):
    """Sizes of the generated data. `n_suite_items` is per suite (there are eight); `n_examples` and `n_test_examples`
    are the training and held-out rows of a task. `seed` changes every draw, but neither the world's facts nor which
    combinations are held out.
    """

    seed: int = 0
    n_documents: int = Field(default=25_000, ge=1)
    n_conversations: int = Field(default=22_000, ge=1)
    n_suite_items: int = Field(default=250, ge=8)
    n_examples: int = Field(default=16_000, ge=1)
    n_test_examples: int = Field(default=1_000, ge=1)
