"""What reading would read, and what not: a list made without writing anything, for `parakit text --dry-run`.

Each file is opened as far as its first text, so that a damaged or encrypted one is found too. A file that is read as text
may still have broken rows or bytes further on; the report of the corpus counts these.
"""

from __future__ import annotations

from collections import Counter

from parakit.common.files import JsonObject
from parakit.data.config import TextConfig
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.read_report import MAX_NAMED, ReadReport
from parakit.data.readers.files import try_to_read
from parakit.data.readers.inputs import check_paths, input_files
from parakit.data.readers.skip_reasons import way_to_include


def list_inputs(config: TextConfig) -> JsonObject:
    """What `config` reads: {"files", "bytes", "formats": {format: {files, bytes}}, "read": [{source, format, bytes}],
    "skipped": {reason: files}, "left_out": [{source, reason, way}]}; the two lists end at a thousand entries each.

    Raises `UserError` for a path that does not exist. Nothing is written.
    """
    report, seen = ReadReport(), DigestSet()
    files, sizes = Counter[str](), Counter[str]()
    read: list[JsonObject] = []
    for paths in (config.validation_paths, config.paths):
        check_paths(paths)
        for path in paths:
            for file in input_files(path, config, report, seen):
                if file.remote is None and not try_to_read(file, config, report):
                    continue
                kind, n_bytes = str(file.format or "text"), file.size()
                files[kind] += 1
                sizes[kind] += n_bytes
                if len(read) < MAX_NAMED:
                    read.append({"source": file.source, "format": kind, "bytes": n_bytes})
    return {
        "files": files.total(),
        "bytes": sizes.total(),
        "formats": {kind: {"files": n, "bytes": sizes[kind]} for kind, n in files.most_common()},
        "read": read,
        "skipped": dict(sorted(report.skipped.items())),
        "left_out": [
            {"source": source, "reason": reason, "way": way_to_include(reason)}
            for source, reason in report.skipped_files
        ],
    }
