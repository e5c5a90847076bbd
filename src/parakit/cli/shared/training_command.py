"""What `parakit pretrain` and `parakit finetune` share: their training settings and where their work goes."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from parakit.alignment.config import Method
from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.recipe.families import Objective, Task
from parakit.recipe.unread import unread_training, why_unread
from parakit.training.config import TrainingConfig

Settings = TypeVar("Settings", bound=TrainingConfig)


def training_config(command: Config, kind: type[Settings], learned: Objective | Task | Method) -> Settings:
    """The training settings among a command's, as far as they differ from the defaults. One that the chosen
    optimizer, the schedule or what is `learned` never looks at is a `UserError`.
    """
    fields = kind.model_fields
    given = {name: getattr(command, name) for name in fields}
    training = kind.parse({name: value for name, value in given.items() if value != fields[name].default})
    for key in unread_training(training, learned):
        raise UserError(
            f"--{key.replace('_', '-')} is set, and nothing reads it: {why_unread(key, training, learned)}",
            "take it out, or change what should read it",
        )
    return training


@contextlib.contextmanager
def output_folder(output: str, overwrite: bool) -> Iterator[tuple[Path, Path]]:
    """The folder to write, and one beside it for checkpoints, of which nothing stays unless there is
    something to go on from. An output that cannot be written later is refused before any work is done.
    """
    out = Path(output)
    if out.exists() and not overwrite:
        raise UserError(f"{out}: exists already", "choose another folder, or pass --overwrite to replace it")
    if out.exists() and not (out.is_dir() and ((out / LINEAGE).is_file() or not any(out.iterdir()))):
        raise UserError(f"{out}: is no Parakit artifact and is not replaced", "choose another folder")
    work = out.parent / f".{out.name}.work"
    new = [path for path in out.parents if not path.exists()]
    try:
        yield out, work
    except BaseException:
        if not any(work.glob("*/step-*")):
            shutil.rmtree(work, ignore_errors=True)
            with contextlib.suppress(OSError):  # none of them is removed while anything is in it
                for path in new:
                    path.rmdir()
        raise
