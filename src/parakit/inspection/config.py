"""Settings of what `parakit inspect` trains."""

from pydantic import Field

from parakit.common.settings import Config


class TunedLensConfig(Config):
    """How the translators of a tuned lens are trained."""

    max_steps: int = Field(
        default=250, ge=1, description="Steps of training; each reads one window of the text."
    )
    learning_rate: float = Field(
        default=1e-3, gt=0, description="Of Adam at the first step; it falls to zero."
    )
    seq_len: int = Field(default=128, ge=8, description="Tokens of a window, special ones included.")
    positions_per_step: int = Field(
        default=32, ge=1, description="Positions of a window that each step trains on."
    )
    seed: int = Field(default=0, ge=0, description="Of windows and positions.")
