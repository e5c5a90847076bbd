"""What an import does not keep, or keeps without using: sentences for the user, also recorded in the lineage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from parakit.checkpoints.folder_safety import read_small_json
from parakit.checkpoints.generation_settings import GENERATION, published_generation
from parakit.checkpoints.multimodal import reads_images
from parakit.checkpoints.rope_config import is_dynamic
from parakit.checkpoints.safetensors_io import INDEX, folder_tensors
from parakit.checkpoints.sentence_encoders.pooling_files import is_sentence_file, unused_modules
from parakit.checkpoints.wrapper_names import wrappers_in
from parakit.common.errors import UserError

if TYPE_CHECKING:
    from parakit.tokens.tokenizer.tokenizer import Tokenizer

# Files that an import reads and writes again.
_KEPT_FILES = {
    *("config.json", GENERATION, INDEX, "README.md", "lineage.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
    *("target_tokenizer.json", "manifest.json"),
}
# Files whose content is in tokenizer.json.
_VOCABULARIES = {
    *("vocab.txt", "vocab.json", "merges.txt", "added_tokens.json", "tokenizer.model", "spiece.model"),
    *("source.spm", "target.spm", "sentencepiece.bpe.model"),
}
_CONVERSATION = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello!"}]


def import_notes(
    folder: Path, files: Iterable[str], tokenizer: Tokenizer | None, unused_weights: Sequence[str] = ()
) -> list[str]:
    """Sentences about a folder that is imported; `files` are the names of its data files, `unused_weights` tensors that
    are left out.
    """
    hf_config = read_small_json(folder / "config.json")
    notes = []
    if reads_images(hf_config):
        notes.append("the language model is imported: what reads images, and a second output, are not kept")
    if is_dynamic(hf_config):
        notes.append(
            f"config.json has rotary positions of type dynamic: texts of up to {hf_config.get('max_position_embeddings')} "
            f"tokens are computed exactly, and longer ones are refused"
        )
    if wrappers := wrappers_in(entry.name for entry in folder_tensors(folder).values()):
        notes.append(f"the tensors' names are kept without those of {' and '.join(wrappers)}")
    unused = sorted(published_generation(folder).other)
    if unused:
        where = GENERATION if (folder / GENERATION).is_file() else "config.json"
        notes.append(f"{where} has settings that Parakit keeps but does not use: {', '.join(unused)}")
    if modules := unused_modules(folder):
        notes.append(f"modules.json has modules that Parakit keeps but does not use: {', '.join(modules)}")
    if unused_weights:
        notes.append(
            "modules.json makes the model a sentence encoder, so the weights of the other head in config.json are not"
            f" kept: {', '.join(unused_weights)}"
        )
    others = sorted(
        file
        for file in files
        if file not in _KEPT_FILES and not is_sentence_file(file) and not file.endswith(".safetensors")
    )
    if replaced := [file for file in others if file in _VOCABULARIES]:
        notes.append(f"replaced by tokenizer.json: {', '.join(replaced)}")
    if unused_files := [file for file in others if file not in _VOCABULARIES]:
        notes.append(f"not kept: {', '.join(unused_files)}")
    if tokenizer is not None and tokenizer.chat_template is not None:
        notes += _template_notes(tokenizer)
    return notes


def _template_notes(tokenizer: Tokenizer) -> list[str]:
    from parakit.tokens.chat.template import compile_chat

    try:
        compile_chat(tokenizer, _CONVERSATION)
    except UserError as error:
        return [
            f"the chat template fails on a short conversation, so the model continues plain texts only: {error.message}"
        ]
    if tokenizer.shows_date:
        return [f"the chat template shows the date, which is fixed at {tokenizer.chat_date}"]
    return []
