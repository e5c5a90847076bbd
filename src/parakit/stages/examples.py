"""The stages of a task's data: its examples, and their tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parakit.common.progress import progress
from parakit.common.settings import Family
from parakit.data.examples import iter_examples, prepare_examples
from parakit.data.examples.readers import example_paths
from parakit.primer.sources import primer_examples
from parakit.stages.data_config import ExamplesConfig
from parakit.tokens.examples.encoding import encode_examples
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.task_names import TaskName


def make_examples(config: ExamplesConfig, task: TaskName, out: Path, overwrite: bool = False) -> Path:
    """Read or generate the examples to tune on, and those to measure on."""
    with progress("examples", unit="examples") as bar:
        return prepare_examples(
            primer_examples(config.primer, task) if config.primer else config.paths,
            task,
            out,
            validation_fraction=config.validation_fraction,
            test_fraction=0.0 if config.primer else config.test_fraction,
            validation=config.validation_paths,
            test=config.test_paths,
            labels=config.labels,
            columns=config.columns,
            reverse=config.reverse,
            overwrite=overwrite,
            progress=bar,
        )


def example_files(config: ExamplesConfig, task: TaskName) -> list[str]:
    """Every file that the examples are read from; a pair of parallel files is two."""
    named = [*config.paths, *config.validation_paths, *config.test_paths]
    return [str(file) for path in named for file in example_paths(path, task)]


def make_example_shards(
    examples: Path, tokenizer_dir: Path, out: Path, family: Family, overwrite: bool = False
) -> Path:
    """Encode every split of a task's examples as a model of `family` reads them."""
    tokenizer = Tokenizer.load(tokenizer_dir)
    with progress("example tokens", unit="examples") as bar:
        return encode_examples(examples, tokenizer, out, family=family, overwrite=overwrite, progress=bar)


def example_texts(examples: Path, split: str) -> Iterator[str]:
    """Every text of a split's rows: what a tokenizer is trained on where there is no corpus."""
    for row in iter_examples(examples, split):
        for key in ("text", "text_pair", "positive", "source", "target"):
            if key in row:
                yield row[key]
        if "words" in row:
            yield " ".join(row["words"])
