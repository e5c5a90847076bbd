"""`parakit finetune`: tune a model on conversations, so that it answers."""

import json
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from parakit.common.progress import say
from parakit.training.config import TrainingConfig

SUMMARY = "Tune a model on conversations."


class FinetuneCommandConfig(TrainingConfig):
    """Tune all weights on conversations, counting what the assistant says. Interrupted, the same
    command goes on.
    """

    model: tyro.conf.Positional[str] = Field(description="The model folder to start from; it is not changed.")
    conversations: tuple[str, ...] = Field(
        description="JSON-lines files, or a folder that `parakit text` wrote."
    )
    output: str = Field(description="The model folder to write.")
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the figures as JSON."
    )


def main(argv: list[str]) -> int:
    """Run `parakit finetune` with these arguments."""
    command = tyro.cli(
        FinetuneCommandConfig, args=argv, prog="parakit finetune", config=(tyro.conf.FlagCreatePairsOff,)
    )
    from parakit.cli.training_command import output_folder, training_config
    from parakit.recipe.config import ConversationsConfig
    from parakit.recipe.model_stages import Finetuning, finetune
    from parakit.recipe.text_stages import make_conversation_shards, make_conversations

    out, work = output_folder(command.output, command.overwrite)
    work.mkdir(parents=True, exist_ok=True)
    first = Path(command.conversations[0])
    if len(command.conversations) == 1 and (first / "lineage.json").is_file():
        conversations = first
    else:
        config = ConversationsConfig(paths=command.conversations)
        conversations = make_conversations(config, work / "conversations", overwrite=True)
    shards = make_conversation_shards(conversations, Path(command.model), work / "shards", overwrite=True)
    figures = finetune(
        Finetuning(Path(command.model), shards, work, training_config(command)), out, command.overwrite
    )
    if command.as_json:
        print(json.dumps(figures))
    say(f"validation loss {figures['loss']:.3f} nats per counted token: parakit chat {out}")
    return 0
