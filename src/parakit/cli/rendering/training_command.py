"""What the verbs that train share: the conversations they read, where their work goes."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError


def conversation_shards(
    conversations: Sequence[str], model: Path, work: Path, shares: Sequence[float] = (), seed: int = 0
) -> Path:
    """Conversations, from files (mixed by `shares`) or from a folder of them, compiled through the model's template."""
    from parakit.stages.data import make_conversation_shards, make_conversations
    from parakit.stages.data_config import ConversationsConfig

    folder = Path(conversations[0])
    if len(conversations) > 1 or not (folder / LINEAGE).is_file():
        config = ConversationsConfig.parse(
            {"paths": tuple(conversations), "shares": tuple(shares)}, "--conversations"
        )
        folder = make_conversations(config, work / "conversations", overwrite=True, seed=seed)
    elif shares:
        raise UserError(
            f"{folder}: is mixed already, and shares were given", "take them out, or name its files"
        )
    return make_conversation_shards(folder, model, work / "shards", overwrite=True)


def against_before(figures: Mapping[str, Any], name: str = "loss") -> str:
    """What a trained model's figure `name` was before it went on, and what it has forgotten of earlier data, in words."""
    if (before := figures.get("before")) is None:
        return ""
    told = f" ({before[name]:.3f} before)"
    if "forgetting" in figures:
        now, then = figures["earlier_loss"], before["earlier_loss"]
        told += f"; earlier data: loss {now:.3f} ({then:.3f} before), forgetting {figures['forgetting']:+.3f} nats"
    return told


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
