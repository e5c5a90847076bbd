"""Files on object storage as inputs: listed and left out by their names as in a folder, copied here one at a time to be read.

A file of an unknown ending is left out unless `include` names it: its first bytes are not looked at.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
from parakit.common.remote import RemoteFile, download, list_files
from parakit.data.config import TextConfig
from parakit.data.documents import repair
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.read_report import ReadReport
from parakit.data.readers.formats.registry import split_name
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.lines import UnreadableFileError
from parakit.data.readers.skip_reasons import is_included, reason_of_name


def remote_files(url: str, config: TextConfig, report: ReadReport, seen: DigestSet) -> Iterator[InputFile]:
    """The file at `url`, or the files below it in the order of their names, but for those in `seen`."""
    base = url.rstrip("/")
    label = repair(base.rpartition("/")[2])[0]
    files = list_files(base)
    artifacts = {file.url.removesuffix(f"/{LINEAGE}") for file in files if file.url.endswith(f"/{LINEAGE}")}
    for folder in sorted(artifacts):
        report.skip(label + folder[len(base) :], "a Parakit artifact")
    for file in files:
        if any(file.url.startswith(f"{folder}/") for folder in artifacts):
            continue
        relative = repair(file.url[len(base) + 1 :])[0]
        source = f"{label}/{relative}" if relative else label
        form, compression = split_name(source.rpartition("/")[2])
        if relative and (reason := reason_of_name(relative, config)):
            report.skip(source, *reason)
        elif relative and form is None and not is_included(relative, config):
            report.skip(source, "unknown kind", Path(source).suffix)
        elif not seen.add(hashlib.sha256(file.url.encode()).hexdigest()):
            report.skip(source, "already read")
        else:
            name = form.name if form else None
            yield InputFile(Path(file.url), source, name, compression, named=not relative, remote=file)


@contextmanager
def fetched(file: InputFile, remote: RemoteFile) -> Iterator[InputFile]:
    """The file, copied into a temporary folder; `UnreadableFileError` where the storage fails."""
    with tempfile.TemporaryDirectory(prefix="parakit-") as folder:
        path = Path(folder) / "file"
        try:
            download(remote.url, path)
        except UserError as error:
            raise UnreadableFileError("cannot be read", error.message, error.hint) from None
        yield replace(file, path=path, remote=None)
