"""Expands files and folders into the list of files to read, in a fixed order.

A named file must be readable, whatever its name; inside a folder the name decides, and skipped files are counted with a
reason. Folders are walked in the order of names. Hidden entries, Parakit's own artifacts, files or folders that were
already read (through a link, or named twice), and links that lead out of the named folders are skipped.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
from parakit.common.files import sha256_file
from parakit.common.remote import exists as remote_exists
from parakit.common.remote import is_remote
from parakit.common.settings import closest_match
from parakit.data.config import TextConfig
from parakit.data.documents import repair
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.fetching.locations import HUB, URLS, list_file, local_path
from parakit.data.fetching.remote_inputs import remote_files
from parakit.data.read_report import ReadReport
from parakit.data.readers.detection import format_of
from parakit.data.readers.formats.registry import split_name
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.skip_reasons import is_included, reason_of_name


def check_paths(paths: Sequence[str]) -> None:
    """Raise `UserError` for the first path that does not exist or is no file or folder, naming the closest that does."""
    for given in paths:
        if is_remote(given):
            if not remote_exists(given):
                raise UserError(
                    f"{given}: no such file or folder", "check the address, and the keys of the storage"
                )
            continue
        path = local_path(given)
        try:
            if path.is_dir() or path.is_file():
                continue
            exists = path.exists()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})", "check its permissions") from None
        if exists:
            raise UserError(f"{path}: is a pipe, socket or device", "save its text to a file first")
        close = None
        if path.parent.is_dir():
            close = closest_match(path.name, (entry.name for entry in os.scandir(path.parent)))
        hint = f"did you mean {path.parent / close}?" if close else "check the spelling"
        raise UserError(f"{path}: no such file or folder", hint)


def input_files(path: str, config: TextConfig, report: ReadReport, seen: DigestSet) -> Iterator[InputFile]:
    """The file `path`, or the files under the folder `path` in reading order, except those in `seen`."""
    if is_remote(path):
        yield from remote_files(path, config, report, seen)
        return
    file = local_path(path)
    label = repair(file.name or file.resolve().name)[0]
    if path.startswith(URLS):
        from parakit.data.fetching.url_list import unfetched  # a client of the web, which few corpora need

        label = repair(list_file(path).name)[0]
        for address, *reason in unfetched(list_file(path)):
            report.skip(f"{label}/{address}", *reason)
    elif path.startswith(HUB):
        label = path
    if file.is_dir():
        yield from _Walk(config, report, seen, _roots(config)).files(file, label, "")
    elif _is_new(file, seen):
        file_format, compression = split_name(file.name)
        yield InputFile(
            file,
            label,
            file_format.name if file_format else None,
            compression,
            named=not path.startswith(URLS),
        )
    else:
        report.skip(label, "already read")


def input_digest(config: TextConfig) -> str:
    """sha256 over the names and contents of every file that `config` reads."""
    total = hashlib.sha256()
    seen = DigestSet()
    for paths in (config.validation_paths, config.paths):
        check_paths(paths)
        for path in paths:
            for file in input_files(path, config, ReadReport(), seen):
                try:
                    content = file.remote.version if file.remote else sha256_file(file.path)
                except OSError as error:  # unreadable, or it vanished: reading says which
                    content = error.strerror or "cannot be read"
                total.update(f"{file.source}\0{content}\n".encode())
        total.update(b"\n")
    return total.hexdigest()


@dataclass
class _Walk:
    config: TextConfig
    report: ReadReport
    seen: DigestSet
    roots: Sequence[str] | None
    """Links may lead to these and below; None: anywhere."""

    def files(self, folder: Path, label: str, relative: str) -> Iterator[InputFile]:
        if not _is_new(folder, self.seen):
            return self.report.skip(label, "already read")
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            return self.report.skip(label, "cannot be read", error.strerror or "")
        if any(entry.name == LINEAGE for entry in entries):
            return self.report.skip(label, "a Parakit artifact")
        for entry in entries:
            name = repair(entry.name)[0]
            source, inner = f"{label}/{name}", f"{relative}{name}"
            if reason := self._skip_reason(entry, inner):
                self.report.skip(source, *reason)
            elif entry.is_dir():
                yield from self.files(Path(entry.path), source, inner + "/")
            elif not _is_new(Path(entry.path), self.seen):
                self.report.skip(source, "already read")
            elif (file := self._file(Path(entry.path), source, inner)) is not None:
                yield file
        return None

    def _skip_reason(self, entry: os.DirEntry[str], relative: str) -> tuple[str, ...] | None:
        """Why an entry is not read: a reason, and a detail where there is one; None for one that is read."""
        try:
            is_dir, is_file = entry.is_dir(), entry.is_file()
        except OSError as error:  # links that point at each other
            return "not a file", error.strerror or "cannot be read"
        if reason := reason_of_name(relative, self.config, is_dir):
            return reason
        if not is_dir and not is_file:
            return "not a file", "a link to nothing" if entry.is_symlink() else "a pipe, socket or device"
        if entry.is_symlink() and not self._is_inside(target := os.path.realpath(entry.path)):
            return "a link out of the folder", f"to {repair(target)[0]}; follow_links reads it"
        return None

    def _file(self, path: Path, source: str, relative: str) -> InputFile | None:
        """The file of this path, unless neither its name nor its first bytes speak for a known format."""
        try:
            file_format, compression = format_of(path, path.name)
        except OSError as error:
            self.report.skip(source, "cannot be read", error.strerror or "")
            return None
        if file_format is None and not is_included(relative, self.config):
            self.report.skip(source, "unknown kind", path.suffix)
            return None
        return InputFile(path, source, file_format, compression, named=False)

    def _is_inside(self, real: str) -> bool:
        """Whether a resolved path is one of the named paths or below one."""
        return self.roots is None or any(
            real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in self.roots
        )


def _roots(config: TextConfig) -> list[str] | None:
    if config.follow_links:
        return None
    named = (*config.paths, *config.validation_paths)
    return [os.path.realpath(local_path(path)) for path in named if not is_remote(path)]


def _is_new(path: Path, seen: DigestSet) -> bool:
    real = os.path.realpath(path)
    return seen.add(hashlib.sha256(os.fsencode(real)).hexdigest())
