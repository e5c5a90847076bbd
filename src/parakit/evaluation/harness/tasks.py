"""lm-eval's tasks on local documents: loading a task reads the user's folder of data or the hub's cache, never the network.

lm-eval loads documents with `datasets.load_dataset` and has no other way in, so that function is replaced while a task is
made. Task definitions are lm-eval's own; a user's YAML file can be named by its path.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.evaluation.harness.layouts import DataSplits, layout_files, read_file, read_layout
from parakit.evaluation.harness.task_index import Definition, find, load_index, require_harness

FEWSHOT_SEED = 1234  # lm-eval's own, so that a task has the same shots there and here
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
_READABLE = {"json", "parquet"}  # of a user's own task: these files are read here, and a broken row is named


PREFIX = "lm_eval:"  # before a name that is a measure of Parakit's own too


class MissingData(UserError):
    """A data set that is neither in the folder of data nor in the hub's cache."""


@dataclass(frozen=True)
class LoadedBenchmark:
    """What one name stands for: one task, or a group whose scores are put together."""

    name: str
    tasks: tuple[Any, ...]  # lm-eval's Task
    group: Any = None  # lm-eval's Group, which says how
    version: str = ""


class TaskLoader:
    """Makes tasks by name; `data`: a folder of public data; `fetch`: whether what is absent may be downloaded."""

    def __init__(self, data: Path | None, *, fetch: bool = False) -> None:
        self.version = require_harness()
        if data is not None and not data.is_dir():
            raise UserError(f"{data}: there is no such folder", "name the folder of benchmark data")
        self.data, self.fetch = data, fetch
        with _offline(not fetch):
            import lm_eval.tasks
        logging.getLogger("lm_eval").setLevel(logging.ERROR)  # its warnings are about its own task files
        _compile_templates_once()
        self._folder = Path(lm_eval.tasks.__file__).parent
        self.index: dict[str, Definition] = load_index(self._folder, self.version)

    def load(self, name: str, n_shots: int | None = None) -> list[LoadedBenchmark]:
        """The benchmarks that a name stands for: several for a tag, and for a group that puts no scores together.

        `UserError` for an unknown name, and for data that is neither in the folder nor in the hub's cache.
        """
        name = name.removeprefix(PREFIX)
        manager, name = self._manager(name)
        known = self.index.get(name)
        if known is None or known.kind != "tag":
            return self._made(manager, name, n_shots)
        found: list[LoadedBenchmark] = []
        absent: list[MissingData] = []
        for member in known.members:
            try:
                found += self._made(manager, member, n_shots)
            except MissingData as error:
                absent.append(error)
        if absent and not found:
            raise absent[0]
        for one in absent:
            log(f"{name}: left out: {one.message}")
        return found

    def _made(self, manager: Any, name: str, n_shots: int | None) -> list[LoadedBenchmark]:
        try:
            with _offline(not self.fetch), self._documents(name):
                found = manager._load_spec(name)
        except UserError:
            raise
        except (ImportError, OSError) as error:  # what a task's own code imports, and what that downloads
            raise UserError(
                f"task {name} needs something that is not on this machine: {error}",
                "install it, choose another task, or a measure of Parakit's own",
            ) from None
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"task {name} cannot be made: {error!r}", "check its file and its data"
            ) from error
        benchmarks = [
            one for item in (found if isinstance(found, list) else [found]) for one in _benchmarks(item)
        ]
        for benchmark in benchmarks:
            for task in benchmark.tasks:
                _set_shots(task, n_shots)
        return benchmarks

    def _manager(self, name: str) -> tuple[Any, str]:
        """lm-eval's manager of tasks, which knows all names, and the name that is meant: a file's is inside it."""
        from lm_eval.tasks import TaskManager
        from lm_eval.tasks._index import Entry, Kind, TaskIndex
        from lm_eval.tasks._yaml_loader import load_yaml

        manager = TaskManager(include_defaults=False)
        manager.task_index.update(self._entries)
        if not name.endswith((".yaml", ".yml")):
            find(self.index, name)
            return manager, name
        if not os.path.isfile(name):
            raise UserError(
                f"{name}: there is no such task file", "name a YAML file of a task, or a task of lm-eval"
            )
        try:
            config = load_yaml(name, resolve_func=False)
            kind = TaskIndex._kind_of(config)
            meant = str(config["group" if kind is Kind.GROUP else "task"])
        except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
            raise UserError(
                f"{name}: defines no task ({error})", "give it a task: or group: with a name"
            ) from None
        manager.task_index[meant] = Entry(meant, kind, Path(name).resolve())
        return manager, meant

    @functools.cached_property
    def _entries(self) -> dict[str, Any]:
        """The index in the form of lm-eval's."""
        from lm_eval.tasks._index import Entry, Kind

        kinds = {"task": Kind.TASK, "python_task": Kind.PY_TASK, "group": Kind.GROUP, "tag": Kind.TAG}
        found = {}
        for name, one in self.index.items():
            path = None if one.path is None else self._folder / one.path
            found[name] = Entry(name, kinds[one.kind], path, tags=set(one.members))
        return found

    @contextlib.contextmanager
    def _documents(self, name: str) -> Iterator[None]:
        """Inside, `datasets.load_dataset` reads local files first."""
        import datasets

        datasets.disable_progress_bars()
        original = datasets.load_dataset

        def load(path: str, name: str | None = None, **settings: Any) -> Any:
            splits = self._local(path, name, settings)
            if splits is not None:
                return _Documents(splits)
            with contextlib.suppress(TypeError):
                settings.pop("trust_remote_code", None)  # no code of a data set is run
            try:
                return original(path, name, **settings)
            except UserError:
                raise
            except Exception as error:  # the library's own errors have no common class
                raise self._absent(task, path, name, error) from None

        task = name
        datasets.load_dataset = load
        try:
            yield
        finally:
            datasets.load_dataset = original

    def _local(self, path: str, name: str | None, settings: Mapping[str, Any]) -> DataSplits | None:
        files = settings.get("data_files")
        if path in _READABLE and files:
            named = files if isinstance(files, Mapping) else {"train": files}
            return {split: _read_all(one) for split, one in named.items()}
        return None if self.data is None else read_layout(self.data, path, name)

    def _absent(self, task: str, path: str, name: str | None, error: Exception) -> MissingData:
        what = path if name is None else f"{path} ({name})"
        ways = [f"{self.data or 'DATA'}/{file}" for file in layout_files(path, name)]
        if self.fetch:
            return MissingData(
                f"task {task}: {what} could not be fetched: {error}", "get its files: " + ", or ".join(ways)
            )
        return MissingData(
            f"task {task} needs the data set {what}, which is neither in --data nor in the cache of the hub",
            f"put it at {', or at '.join(ways)} and name the folder with --data; or download it with --fetch",
        )


class _Documents(dict[str, Any]):
    """DataSplits as data sets. A split that the local files lack is empty: a task may name one for shots that nobody wants."""

    def __init__(self, splits: DataSplits) -> None:
        import datasets

        super().__init__({name: datasets.Dataset.from_list(rows) for name, rows in splits.items()})

    def __missing__(self, split: str) -> Any:
        if not self:
            raise KeyError(split)
        return next(iter(self.values())).select([])


def _read_all(files: str | Sequence[str]) -> list[dict[str, Any]]:
    return [row for file in ([files] if isinstance(files, str) else files) for row in read_file(Path(file))]


def _benchmarks(item: Any) -> list[LoadedBenchmark]:
    from lm_eval.api.group import Group

    if not isinstance(item, Group):
        return [LoadedBenchmark(item.task_name, (item,), version=str(item.VERSION))]
    if item.has_aggregation:
        return [LoadedBenchmark(item.name, tuple(item.get_all_tasks()), item, str(item.version))]
    return [one for child in item for one in _benchmarks(child)]


def _set_shots(task: Any, n_shots: int | None) -> None:
    """As lm-eval: a task that sets 0 is never shown examples."""
    own = task.get_config("num_fewshot")
    if own is None or (n_shots is not None and own != 0):
        task.set_config(key="num_fewshot", value=n_shots or 0)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    wanted = task.get_config("num_fewshot")
    n_found = len(task.sampler.df) if hasattr(task, "sampler") else wanted
    if wanted > n_found:
        raise UserError(
            f"task {task.task_name}: {wanted} examples are wanted in the prompt, and its data has {n_found}",
            f"lower --n-shots to {n_found}, or add the split that it takes examples from",
        )


def _compile_templates_once() -> None:
    """lm-eval compiles the template of a prompt for every document and shot, which takes most of the time of a prompt."""
    import lm_eval.utils

    environment = lm_eval.utils.env
    if not hasattr(environment.from_string, "cache_info"):
        environment.from_string = functools.lru_cache(maxsize=1024)(environment.from_string)


@contextlib.contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """No request of the hub's libraries inside, whether they were imported before or not."""
    if not wanted:
        yield
        return
    before = {name: os.environ.get(name) for name in _OFFLINE}
    os.environ.update(dict.fromkeys(_OFFLINE, "1"))
    import datasets.config
    import huggingface_hub.constants

    modules = (datasets.config, "HF_HUB_OFFLINE"), (huggingface_hub.constants, "HF_HUB_OFFLINE")
    values = [getattr(module, name) for module, name in modules]
    for module, name in modules:
        setattr(module, name, True)
    try:
        yield
    finally:
        for (module, name), value in zip(modules, values, strict=True):
            setattr(module, name, value)
        for name, old in before.items():
            os.environ.pop(name, None) if old is None else os.environ.update({name: old})
