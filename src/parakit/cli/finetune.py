"""`parakit finetune`: tune a model on conversations, so that it answers."""

import json
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from parakit.cli.main import gathered
from parakit.cli.model_loading import model_folder
from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
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
    argv = gathered(argv, ("--conversations",))
    command = tyro.cli(
        FinetuneCommandConfig, args=argv, prog="parakit finetune", config=(tyro.conf.FlagCreatePairsOff,)
    )
    from parakit.cli.training_command import output_folder, training_config

    training = training_config(command)
    if not command.conversations:
        raise UserError("no conversations were given", "name JSON-lines files: --conversations chats.jsonl")
    with output_folder(command.output, command.overwrite) as (out, work):
        from parakit.recipe.model_stages import Finetuning, finetune

        model = model_folder(command.model)
        shards = _conversation_shards(command.conversations, model, work)
        figures = finetune(Finetuning(model, shards, work, training), out, command.overwrite)
    if command.as_json:
        print(json.dumps(figures))
    say(f"validation loss {figures['loss']:.3f} nats per counted token: parakit chat {out}")
    return 0


def _conversation_shards(conversations: tuple[str, ...], model: Path, work: Path) -> Path:
    """Conversations, from files or from a folder of them, compiled through the model's template."""
    from parakit.recipe.config import ConversationsConfig
    from parakit.recipe.text_stages import make_conversation_shards, make_conversations

    folder = Path(conversations[0])
    if len(conversations) > 1 or not (folder / LINEAGE).is_file():
        config = ConversationsConfig(paths=conversations)
        folder = make_conversations(config, work / "conversations", overwrite=True)
    return make_conversation_shards(folder, model, work / "shards", overwrite=True)
