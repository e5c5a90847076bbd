"""What `parakit pretrain` and `parakit finetune` share: their training settings and where their work goes."""

from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.training.config import TrainingConfig


def training_config(command: Config) -> TrainingConfig:
    """The training settings among a command's, as far as they differ from the defaults."""
    fields = TrainingConfig.model_fields
    given = {name: getattr(command, name) for name in fields}
    return TrainingConfig.parse(
        {name: value for name, value in given.items() if value != fields[name].default}
    )


def output_folder(output: str, overwrite: bool) -> tuple[Path, Path]:
    """The folder to write and the one for checkpoints beside it; an existing output is refused before
    any work is done.
    """
    out = Path(output)
    if out.exists() and not overwrite:
        raise UserError(f"{out}: exists already", "choose another folder, or pass --overwrite to replace it")
    return out, out.parent / f".{out.name}.work"
