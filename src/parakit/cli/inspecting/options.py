"""What the verbs of `parakit inspect` share: the model, the text, and how a model is opened, GGUF files included."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.common.settings import Config

if TYPE_CHECKING:
    from rich.console import Console

    from parakit.inference.loaded_model import Model


class InspectConfig(Config):
    """A model to look into."""

    model: tyro.conf.Positional[str] = Field(
        description="A model folder, the folder of a build or of an adapter, or a GGUF file."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: str = Field(default="auto", description="auto, float32, bfloat16, float16, float64.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


class InspectTextConfig(InspectConfig):
    """A model to look into while it reads a text."""

    text: str | None = Field(default=None, description="The text. Default: standard input.")
    target: str | None = Field(
        default=None,
        description="Of an encoder-decoder: the target. Default: what the model writes for the text.",
    )


@contextlib.contextmanager
def opened_model(command: InspectConfig) -> Iterator[Model]:
    """The model of a command. A GGUF file is imported to a temporary folder, which is gone behind the block."""
    import parakit
    from parakit.checkpoints.gguf.reader import is_gguf

    if not is_gguf(command.model):
        yield parakit.load(command.model, device=command.device, dtype=command.dtype)
        return
    from parakit.checkpoints.import_export import import_model

    with tempfile.TemporaryDirectory() as folder:
        imported = import_model(command.model, Path(folder) / "model")
        yield parakit.load(imported, device=command.device, dtype=command.dtype)


def text_of(command: InspectTextConfig) -> str:
    """The text of a command, or of standard input. Raises `UserError` for an empty one."""
    text = sys.stdin.read() if command.text is None else command.text
    if not text.strip():
        raise UserError("there is no text", 'give it with --text "..."')
    return text


def new_page(output: str | None, overwrite: bool, suffix: str = ".html") -> Path | None:
    """Where to write, checked before the model is opened. Raises `UserError` for another suffix, and for a file that is
    there unless `overwrite`.
    """
    if output is None:
        return None
    path = Path(output)
    if path.suffix.lower() != suffix:
        raise UserError(
            f"{path}: the file is called *{suffix}", f"give it a name such as {path.stem}{suffix}"
        )
    if path.is_dir() or (path.exists() and not overwrite):
        raise UserError(f"{path}: exists already", "choose another name, or pass --overwrite to replace it")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path.parent}: no such folder", "create it, or choose another")
    return path


def present(
    page: Path | None,
    as_json: bool,
    html: Callable[[], str],
    found: Callable[[], JsonObject],
    show: Callable[[Console], object],
) -> None:
    """Write what was found to `page` where there is one, print it as one JSON object where that is wanted, and show it as
    tables where neither is.
    """
    if page is not None:
        from parakit.reports.inspection.page import write_page

        write_page(html(), page)
        log(f"page: {page}")
    if as_json:
        print(json.dumps(found(), ensure_ascii=False))
    elif page is None:
        from rich.console import Console

        show(Console())
