"""Settings of the primer, the built-in closed world.

Free of every other part of the package's text room, so that `text/config.py` can import it. The same
settings always give the same documents, conversations and suites, on any machine and in any process.
"""

from __future__ import annotations

from pydantic import Field

from parakit.common.settings import Config


class PrimerConfig(Config):
    """How much of the primer's world is written out: `n_documents` to read, `n_conversations` to tune on,
    and `n_suite_items` held-out questions in each of the eight suites; of a task, `n_examples` rows to train on and
    `n_test_examples` held out. `seed` changes every draw, never the world's facts nor which combinations are held
    out.
    """

    seed: int = 0
    n_documents: int = Field(default=25_000, ge=1)
    n_conversations: int = Field(default=22_000, ge=1)
    n_suite_items: int = Field(default=250, ge=8)
    n_examples: int = Field(default=16_000, ge=1)
    n_test_examples: int = Field(default=1_000, ge=1)
