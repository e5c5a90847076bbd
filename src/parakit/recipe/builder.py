"""`parakit build`: from a recipe to a folder of artifacts, a report and a summary.

What is up to date is skipped, what was interrupted resumes, and `dry_run` only reports. A lock allows one build at a
time in a folder, because two would overwrite each other's checkpoints.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parakit.alignment.config import ConstitutionConfig, RolloutConfig
from parakit.checkpoints.loading import read_config
from parakit.common.artifacts import LINEAGE, open_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, disk_errors, write_json_atomic, write_text_atomic
from parakit.common.locks import hold_lock, remove_partials
from parakit.common.processes import first_alone, in_turn, is_distributed, is_first, wait_for_all
from parakit.common.progress import log
from parakit.common.settings import load_yaml
from parakit.data.config import TextConfig
from parakit.data.fetching.fetching import fetch_named
from parakit.data.fetching.locations import is_on_network, local_path
from parakit.data.readers.inputs import check_paths
from parakit.evaluation.metrics.translations import require_libraries
from parakit.model.presets import config_for_size
from parakit.planning.stored_law import find_law
from parakit.recipe.build_state import PLAN, RUNS, STATE, SWEEP, SharedStages
from parakit.recipe.config import RecipeConfig, parse_time
from parakit.recipe.graph import Build, Decision, Stage
from parakit.recipe.rules import open_lengths
from parakit.recipe.stage_list import WORK, models_of, stages_of
from parakit.recipe.start import check_start_source, family_of_start
from parakit.recipe.start_config import StartConfig, start_mapping, start_model
from parakit.recipe.start_plan import time_of
from parakit.reports.summary_schema import BuildSummary
from parakit.stages.config import replay_of
from parakit.stages.data import example_files
from parakit.training.config import TrainingConfig

BUILT_IN = "primer"
BUILDS = Path("builds")
TIME_FROM_SCRATCH, TIME_FROM_START = (
    "10min",
    "20min",
)  # of a build for which no time and no lengths were given


def build(recipe: RecipeConfig, builds: Path = BUILDS, shared: SharedStages | None = None) -> BuildSummary:
    """Make everything that `recipe` describes in `builds/NAME`; returns the summary, which is also written
    to `summary.json` there. `shared`: builds from which stages with the same key are taken.
    """
    folder = builds / recipe.name
    in_turn("recipe", lambda: _fetch_and_check(recipe))
    times = time_of(recipe)
    stages = stages_of(recipe, folder, times)

    with _build_folder(folder):
        Build(folder, stages, shared).run(_tell, times)
        if not is_distributed():
            return _write_summary(recipe, folder, stages)
        written = first_alone("summary", lambda: _write_summary(recipe, folder, stages).to_dict())
        return BuildSummary.model_validate(written)


def _write_summary(recipe: RecipeConfig, folder: Path, stages: Sequence[Stage]) -> BuildSummary:
    """Write the summary, the report and the card of a build whose stages are made."""
    from parakit.recipe.predicted_loss import with_predicted_loss
    from parakit.reports.cards.score_card import build_card
    from parakit.reports.corpus_page import refresh_corpus_page
    from parakit.reports.rendering import CORPUS_PAGE, write_report
    from parakit.reports.summary import summarize

    folders = {stage.name: folder / stage.name for stage in stages}
    summary = summarize(recipe.name, recipe.model_dump(mode="json"), folders, models_of(recipe))
    if folder != BUILDS / recipe.name:
        summary = summary.model_copy(update={"path": str(folder)})
    if recipe.scaling_law:
        summary = with_predicted_loss(summary, recipe.scaling_law)
    write_text_atomic(folder / "recipe.json", recipe.model_dump_json(indent=2) + "\n")
    write_json_atomic(folder / "summary.json", summary.to_dict())
    if "corpus" in folders:
        refresh_corpus_page(folders["corpus"], folder / CORPUS_PAGE)
    write_report(summary, folder / "report.html")
    write_text_atomic(folder / "README.md", build_card(summary))
    return summary


def _fetch_and_check(recipe: RecipeConfig) -> None:
    for config in (recipe.text, recipe.replay):
        if config is not None:
            fetch_named(config)
    check_recipe(recipe)


def dry_run(recipe: RecipeConfig, builds: Path = BUILDS) -> list[Decision]:
    """What `build` would do, stage by stage, and why. Writes nothing."""
    folder = builds / recipe.name
    check_recipe(recipe)
    _refuse_foreign(folder)
    return list(Build(folder, stages_of(recipe, folder)).plan())


def load_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> RecipeConfig:
    """Read a recipe file; the name defaults to the file's. `overrides` (dotted keys) are laid over it."""
    path = Path(path)
    mapping = {"name": path.stem} | load_yaml(path)
    for dotted, value in (overrides or {}).items():
        _put(mapping, dotted.split("."), value)
    return _parse(mapping, str(path))


def built_in_recipe() -> Path:
    """The recipe that `parakit build` makes when none is named: installed with the package, or in the
    checkout.
    """
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "recipes", here.parents[3] / "recipes"):
        if (folder / f"{BUILT_IN}.yaml").is_file():
            return folder / f"{BUILT_IN}.yaml"
    raise UserError("the built-in recipe is not installed", "name a recipe file, or give text with --text")


def recipe_for_text(paths: Sequence[str], overrides: Mapping[str, Any] | None = None) -> RecipeConfig:
    """A recipe for somebody's own text, everything else chosen: the vocabulary from the amount of text,
    the size from the time. `overrides` (dotted keys) are laid over it.
    """
    overrides = overrides or {}
    _fetch_first(paths, overrides)
    check_paths(paths)
    mapping: JsonObject = {"name": _name_of(paths[0]), "text": {"paths": list(paths)}}
    if not overrides.get("pretrain.model"):  # a trained model brings its own
        mapping["tokenizer"] = {"vocab_size": _vocab_size(_text_bytes(paths))}
    for dotted, value in overrides.items():
        _put(mapping, dotted.split("."), value)
    if not (mapping.get("time") or mapping.get("size") or overrides.get("pretrain.model")):
        mapping["time"] = TIME_FROM_SCRATCH
    return _parse(mapping, "parakit build --text")


def recipe_for_model(
    model: str, paths: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> RecipeConfig:
    """A recipe that begins with a trained model and continues with somebody's text (`paths`), conversations or examples
    (`overrides`, dotted keys). What is trained, and how much, follows from the time.
    """
    _fetch_first(paths, overrides or {})
    check_paths(paths)
    mapping: JsonObject = {"name": _name_of(paths[0] if paths else model), "start": {"model": model}}
    if paths:
        mapping["text"] = {"paths": list(paths)}
    for dotted, value in (overrides or {}).items():
        _put(mapping, dotted.split("."), value)
    recipe = _parse(mapping, "parakit build --model")
    return recipe if recipe.time or not open_lengths(recipe) else recipe.replace(time=TIME_FROM_START)


def check_recipe(recipe: RecipeConfig) -> None:
    """What can be known to be wrong before any work is done, and needs the file system or the presets: a path that is
    not there, a size or time that is none, a model of another family.
    """
    check_start_source(recipe)
    if recipe.scaling_law:
        find_law(recipe.scaling_law)
    if recipe.reads_text and not recipe.text.paths and not recipe.text.primer:
        raise UserError("no text was given", "name files or folders under text.paths, or give --text PATH")
    paths = [*recipe.text.paths, *recipe.text.validation_paths, *recipe.evaluate.texts]
    paths += [*recipe.replay.paths, *recipe.replay.validation_paths] if recipe.replay else ()
    paths += recipe.conversations.paths if recipe.conversations else ()
    paths += [*recipe.index.paths, *filter(None, (recipe.index.questions,))] if recipe.index else ()
    paths += recipe.preferences.paths if recipe.preferences else ()
    paths += [*recipe.quantize.text, *getattr(recipe.quantize, "calibration", ())] if recipe.quantize else ()
    paths += [
        path
        for step in recipe.align
        if isinstance(step, RolloutConfig | ConstitutionConfig)
        for path in step.prompts
    ]
    check_paths(paths)
    if recipe.examples and recipe.task:
        check_paths(example_files(recipe.examples, recipe.task))
    if recipe.task == "translate":
        require_libraries()
    if recipe.time:
        parse_time(recipe.time)
    if (
        recipe.size or recipe.architecture or recipe.model
    ):  # with the smallest vocabulary: what fails now would fail later, too
        shape = (recipe.max_seq_len, recipe.family, recipe.architecture, recipe.model)
        config_for_size(recipe.size or "10m", 256, *shape)
    if recipe.base_model and not recipe.start:
        family = read_config(recipe.base_model).family
        if family != recipe.family:
            raise UserError(
                f"{recipe.base_model}: is of the family {family!r}, and the recipe's family is {recipe.family!r}",
                f"set family: {family}",
            )
    for section in (recipe.pretrain, recipe.finetune):
        if isinstance(section, TrainingConfig) and (replay := replay_of(section)):
            open_artifact(replay, "shards", verify=False)


def _parse(mapping: JsonObject, where: str) -> RecipeConfig:
    """The recipe of a mapping; the family of a model to begin with is read from its folder."""
    if start_model(mapping) is not None and "family" not in mapping:
        start = StartConfig.parse(start_mapping(mapping["start"]), f"{where}: start")
        if family := family_of_start(start):
            mapping = mapping | {"family": family}
    return RecipeConfig.parse(mapping, where)


def _name_of(path: str) -> str:
    """A name for a build, after a file or folder."""
    stem = Path(path).resolve().stem.split(".")[0]
    plain = "".join(c if (c.isascii() and c.isalnum()) or c in "_-" else "-" for c in stem)
    return plain.strip("_-")[:100] or "my-model"


def _tell(decision: Decision) -> None:
    log(f"[{decision.stage.name}] {'' if decision.run else 'skipped: '}{decision.reason}")


@contextlib.contextmanager
def _build_folder(folder: Path) -> Iterator[None]:
    """The folder to build in: an earlier build's, or a new one, which is removed if it stays empty."""
    if not is_first():
        wait_for_all("build folder")
        yield
        return
    _refuse_foreign(folder)
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.ExitStack() as stack:
            with disk_errors(folder):
                refusal = f"{folder}: process {{}} is already building here"
                sure = stack.enter_context(hold_lock(folder / ".lock", refusal))
            if sure:
                remove_partials(folder)  # what a kill left half-written
            wait_for_all("build folder")
            yield
    finally:
        with contextlib.suppress(OSError):  # none of them is removed while anything is in it
            (folder / WORK).rmdir()
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()


def _refuse_foreign(folder: Path) -> None:
    """`UserError` for a folder with files that no build and no sweep wrote."""
    if not folder.is_dir() or (folder / STATE).exists():
        return
    swept = (SWEEP, RUNS) if (folder / SWEEP / PLAN).is_file() else ()
    for entry in sorted(folder.iterdir()):
        if not (entry.name.startswith(".") or entry.name in swept or (entry / LINEAGE).is_file()):
            raise UserError(
                f"{folder}: holds {entry.name}, which no build wrote",
                "choose another name (--name), or another folder (--builds)",
            )


def _put(mapping: JsonObject, keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        if mapping.get(key) is None:
            mapping[key] = {}
        inner = mapping[key]
        if not isinstance(inner, dict):
            raise UserError(f"`{'.'.join(keys)}`: `{key}` is not a group of settings", "check the key's path")
        mapping = inner
    mapping[keys[-1]] = value


def _fetch_first(paths: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Fetch what the paths name on the network, as the settings under `text` among the overrides say."""
    if any(map(is_on_network, paths)):
        names = ("fetch", "fetch_seconds", "max_fetch_bytes", "private_addresses")
        values = {name: overrides[f"text.{name}"] for name in names if f"text.{name}" in overrides}
        fetch_named(TextConfig.parse({"paths": tuple(paths)} | values, "parakit build --text"))


def _text_bytes(paths: Sequence[str]) -> int:
    """Roughly how much text there is; compressed files count threefold."""
    total = 0
    for name in paths:
        path = local_path(name)
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file():
                total += file.stat().st_size * (3 if file.suffix in (".gz", ".parquet") else 1)
    return total


def _vocab_size(n_bytes: int) -> int:
    """A power of two that grows with the cube root or so of the text: 1,024 for 1 MB, 4,096 for 50 MB,
    32,768 for 25 GB.
    """
    size = 512
    while size < 65_536 and n_bytes > 2e5 * (size / 512) ** 2.6:
        size *= 2
    return size
