"""Near duplicates by the tasks of several processes or machines, with the result of one (`NearDuplicateFinder`).

Four stages: signatures, a task for each part of the rows; buckets, a task for some bands, which links similar texts that
share a key; clusters, where the links of all bands are joined here and tasks choose what stays of some clusters each; and
the filter, which is the next pass of the cleaning chain. The files are those of the single process, part by part. Memory
of a task: about 40 bytes a text, whatever the length of the texts.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from parakit.common.files import JsonObject, save_array
from parakit.common.settings import config_digest
from parakit.data.collected import parse_row
from parakit.data.duplicates.near_duplicate_finder import (
    band_candidates,
    choose_kept,
    join,
    root,
    roots,
)
from parakit.data.duplicates.near_duplicates import NearDuplicatesConfig, save_found
from parakit.data.duplicates.signatures import Signatures, SignatureWriter, n_bands
from parakit.data.parallel.row_parts import RowParts, read_range, split_rows
from parakit.data.parallel.task_runner import TaskRunner
from parakit.data.parallel.tasks import own_name, stage_settings

BANDS_PER_TASK = 4
TEXTS_PER_TASK = 20_000  # of clusters


def find_near_duplicates(path: Path, config: NearDuplicatesConfig, runner: TaskRunner) -> Path:
    """Find the near duplicates among the rows of `path`; returns the folder that `NearDuplicates.load` takes."""
    parts = split_rows(path)
    name = f"near-{parts.digest}-{config_digest(config)[:16]}"
    settings: JsonObject = {
        "path": str(path.absolute()),
        "step": config.model_dump(mode="json"),
        "ends": parts.ends,
        "bands": n_bands(config.similarity),
    }
    written = runner.run("signatures", f"{name}-signatures", settings, parts.n)
    settings |= {"signatures": str(written), "n": parts.n}
    n_tasks = -(-settings["bands"] // BANDS_PER_TASK)
    linked = runner.run("buckets", f"{name}-buckets", settings, n_tasks)
    order = _order(written, parts)
    cluster = _join_links(linked, n_tasks, len(order))
    found = runner.folder / f"{name}-found"
    found.mkdir(exist_ok=True)
    save_array(found / "clusters.npy", cluster)
    bounds = _cluster_ranges(cluster)
    settings |= {"clusters": str((found / "clusters.npy").absolute()), "bounds": bounds}
    chosen = runner.run("clusters", f"{name}-clusters", settings, len(bounds) - 1)
    kept_for = np.arange(len(order))
    for number in range(len(bounds) - 1):
        texts, kept = np.load(chosen / f"{number}.npy")
        kept_for[texts] = kept
    save_found(found, order, kept_for)
    return found


def write_signatures(folder: Path, number: int) -> None:
    """Task: the signatures of one part of the rows, and which of its rows they are of."""
    settings = stage_settings(folder)
    config = NearDuplicatesConfig.model_validate(settings["step"])
    work = own_name(folder / str(number))
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    writer, rows = SignatureWriter(work, settings["bands"]), list[int]()
    for row, line in enumerate(_lines(Path(settings["path"]), *settings["ends"][number : number + 2])):
        _, document = parse_row(line)
        if config.applies_to(document.file):
            writer.add(document.text)
            rows.append(row)
    writer.close()
    save_array(work / "rows.npy", np.array(rows, np.int64))
    target = folder / str(number)
    if target.exists():  # of a task that was killed before its marker
        shutil.rmtree(target)
    work.replace(target)


def link_buckets(folder: Path, number: int) -> None:
    """Task: of some bands the texts that are linked to an earlier one, each with the first that it is linked to, (2, n)."""
    settings = stage_settings(folder)
    signatures, similarity = _signatures(settings), settings["step"]["similarity"]
    parent = np.arange(signatures.n)
    first = number * BANDS_PER_TASK
    for band in range(first, min(first + BANDS_PER_TASK, settings["bands"])):
        join(parent, signatures, band_candidates(signatures, band, similarity), similarity)
    _save_changed(folder, number, roots(parent))


def choose_of_clusters(folder: Path, number: int) -> None:
    """Task: of some clusters the texts for which another stays, each with that one, (2, n)."""
    settings = stage_settings(folder)
    cluster = np.load(settings["clusters"], mmap_mode="r")
    first, end = settings["bounds"][number : number + 2]
    kept_for = choose_kept(_signatures(settings), cluster, settings["step"]["similarity"], first, end)
    _save_changed(folder, number, kept_for)


def _save_changed(folder: Path, number: int, numbers: np.ndarray) -> None:
    changed = np.flatnonzero(numbers != np.arange(len(numbers)))
    path = folder / f"{number}.npy"
    save_array(own_name(path), np.stack([changed, numbers[changed]]))
    own_name(path).replace(path)


def _signatures(settings: JsonObject) -> Signatures:
    folders = [Path(settings["signatures"]) / str(number) for number in range(settings["n"])]
    return Signatures(folders, settings["bands"])


def _order(written: Path, parts: RowParts) -> np.ndarray:
    """The numbers of the rows that have signatures."""
    of_parts = [
        np.load(written / str(number) / "rows.npy") + parts.firsts[number] for number in range(parts.n)
    ]
    return np.concatenate([np.zeros(0, np.int64), *of_parts])


def _join_links(linked: Path, n_tasks: int, n: int) -> np.ndarray:
    """For each text the first of its cluster: texts that links of any band join, (n,) int64."""
    parent = np.arange(n)
    for number in range(n_tasks):
        for one, other in np.load(linked / f"{number}.npy").T.tolist():
            a, b = root(parent, one), root(parent, other)
            if a != b:
                parent[max(a, b)] = min(a, b)
    return roots(parent)


def _cluster_ranges(cluster: np.ndarray) -> list[int]:
    """Where ranges of clusters begin and end that have about `TEXTS_PER_TASK` texts to choose from each."""
    sizes = np.bincount(cluster, minlength=len(cluster))
    total = np.cumsum(np.where(sizes > 1, sizes, 0))
    n_tasks = max(1, -(-int(total[-1]) // TEXTS_PER_TASK)) if len(total) else 1
    if n_tasks == 1:
        return [0, max(1, len(cluster))]
    cuts = np.searchsorted(total, [k * total[-1] / n_tasks for k in range(1, n_tasks)])
    return sorted({0, *cuts.tolist(), len(cluster)})


def _lines(path: Path, start: int, end: int) -> list[str]:
    return read_range(path, start, end).decode().split("\n")[:-1]
