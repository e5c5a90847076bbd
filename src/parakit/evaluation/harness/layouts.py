"""Readers of public benchmark files: each gives the columns that the data set has on the hub, so that lm-eval makes the
same prompts of them.

A folder of data has a folder for each source, as docs/evaluation.md lists them. Any other data set is read where its files
are named after the hub: `OWNER/NAME/CONFIG/SPLIT.jsonl` (or .jsonl.gz, .parquet), without CONFIG where it has none.

Two sets were changed by those who published these files, and are put back: HellaSwag's contexts lost the capital of their
last, unfinished sentence's part, and TruthfulQA's choices are made of its table as its authors do it.
"""

from __future__ import annotations

import bz2
import contextlib
import csv
import functools
import gzip
import io
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.evaluation.measures.rows import read_rows

DataRow = dict[str, Any]
DataSplits = dict[str, list[DataRow]]
_LETTERS = "ABCDEFGHIJ"
_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
_LAST_SENTENCE = re.compile(r"""^(.*[.!?]["')]*) +([^A-Z ].*)$""", re.DOTALL)


def layout_files(path: str, name: str | None) -> list[str]:
    """Where a folder of data may have the data set `path` of the hub, with the configuration `name`."""
    known = LAYOUTS.get(path)
    folder = path if name is None else f"{path}/{name}"
    return [*([known[0]] if known else []), f"{folder}/SPLIT{{{','.join(_SUFFIXES)}}}"]


def read_layout(data: Path, path: str, name: str | None) -> DataSplits | None:
    """The splits that the folder `data` has of a data set of the hub; None where it has none.

    `UserError` for a row that is broken, naming it.
    """
    for folder in ([data / path / name] if name else []) + [data / path]:
        if found := _plain_splits(folder):
            return found
    known = LAYOUTS.get(path)
    if known is None:
        return None
    try:
        return known[1](data / known[0].split("/")[0], name or "")
    except FileNotFoundError:
        return None


def _read(folder: Path, file: str, required: Sequence[str] = ()) -> list[DataRow]:
    return read_file(_present(folder / file), required)


def read_file(path: Path, required: Sequence[str] = ()) -> list[DataRow]:
    """The rows of a file of JSON lines, which may be compressed, or of Parquet. `UserError` names a row that is no object or
    lacks a `required` key.
    """
    if path.suffix != ".parquet":
        return read_rows(path, required)
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[DataRow] = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read: {error}", "fetch the file again") from None
    return rows


def _present(path: Path) -> Path:
    """A file that may lack its .gz; `FileNotFoundError` where it is absent."""
    found = next((one for one in (path, path.with_suffix("")) if one.is_file()), None)
    if found is None:
        raise FileNotFoundError(path)
    return found


def _text(path: Path) -> str:
    """The content of a file, which may be compressed."""
    path = _present(path)
    raw = path.read_bytes()
    try:
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        raw = bz2.decompress(raw) if path.suffix == ".bz2" else raw
        return raw.decode("utf-8")
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})", "fetch the file again") from None


def _plain_splits(folder: Path) -> DataSplits | None:
    splits: DataSplits = {}
    for suffix in _SUFFIXES if folder.is_dir() else ():
        for file in sorted(folder.glob(f"*{suffix}")):
            splits.setdefault(file.name.removesuffix(suffix), read_file(file))
    return splits or None


# --- one function for each layout: (folder of the source, configuration) -> splits
@functools.lru_cache(maxsize=4)
def _archive(path: Path, changed: int) -> dict[str, bytes]:
    """The files of a tar archive, all read at once; `changed`: its time, so that another file is read again."""
    with tarfile.open(path) as archive:
        files = {
            member.name: archive.extractfile(member) for member in archive.getmembers() if member.isfile()
        }
        return {name: file.read() for name, file in files.items() if file is not None}


def _mmlu(folder: Path, subject: str) -> DataSplits:
    path = folder / "mmlu.tar.gz"
    files = _archive(path, path.stat().st_mtime_ns)
    subjects = sorted({Path(name).stem.rsplit("_", 1)[0] for name in files})
    wanted = subjects if subject == "all" else [subject]
    splits: DataSplits = {}
    for split in ("test", "dev"):
        for one in wanted:
            file = f"{split}/{one}_{split}.csv"
            if file in files:
                splits.setdefault(split, []).extend(_mmlu_rows(f"{path}: {file}", files[file], one))
    return splits


def _mmlu_rows(where: str, raw: bytes, subject: str) -> Iterator[DataRow]:
    rows = list(csv.reader(io.StringIO(raw.decode("utf-8"), newline="")))
    for number, row in enumerate(rows[1:], 1):
        if len(row) != 6 or row[5] not in ("0", "1", "2", "3"):
            raise UserError(
                f"{where}: row {number} is no question with four choices and an answer", "repair the file"
            )
        yield {"question": row[0], "subject": subject, "choices": row[1:5], "answer": int(row[5])}


def _gsm8k(folder: Path, _: str) -> DataSplits:
    splits = {"test": _read(folder, "test.jsonl.gz", ("question", "answer"))}
    with contextlib.suppress(FileNotFoundError):  # only shots need it
        splits["train"] = _read(folder, "train.jsonl.gz", ("question", "answer"))
    return splits


def _hellaswag(folder: Path, _: str) -> DataSplits:
    path = folder / "hellaswag_val_full.txt.bz2"
    lines = _text(path).rstrip("\n").split("\n")
    rows: list[DataRow] = []
    for start in range(0, len(lines), 6):
        item = lines[start : start + 6]
        if len(item) < 6 or item[1] not in ("0", "1", "2", "3") or ": " not in item[0]:
            raise UserError(
                f"{path}: row {start // 6 + 1} is no context with its answer and four endings",
                "fetch the file again",
            )
        activity, context = item[0].split(": ", 1)
        unfinished = None if context.endswith(".") else _LAST_SENTENCE.match(context)
        before, begun = unfinished.groups() if unfinished else (context, "")
        rows.append(
            {
                "activity_label": activity,
                "ctx_a": before,
                "ctx_b": begun,
                "endings": item[2:],
                "label": item[1],
            }
        )
    return {"validation": rows}


def _choice_rows(folder: Path, file: str) -> Iterator[tuple[str, list[str], int]]:
    for row in _read(folder, file, ("query", "choices", "gold")):
        yield row["query"], row["choices"], row["gold"]


def _lettered(choices: Sequence[str], gold: int) -> DataRow:
    labels = list(_LETTERS[: len(choices)])
    return {"choices": {"text": list(choices), "label": labels}, "answerKey": labels[gold]}


def _arc(folder: Path, name: str) -> DataSplits:
    file = f"{name.lower().replace('-', '_')}.jsonl.gz"
    rows = [
        {"question": query.removeprefix("Question: "), **_lettered(choices, gold)}
        for query, choices, gold in _choice_rows(folder, file)
    ]
    return {"test": rows}


def _openbookqa(folder: Path, _: str) -> DataSplits:
    found = _choice_rows(folder, "openbook_qa.jsonl")
    return {"test": [{"question_stem": query, **_lettered(choices, gold)} for query, choices, gold in found]}


def _piqa(folder: Path, _: str) -> DataSplits:
    found = _choice_rows(folder, "piqa.jsonl.gz")
    rows = [
        {"goal": query.removeprefix("Question: ").removesuffix("\n"), "sol1": a, "sol2": b, "label": gold}
        for query, (a, b), gold in found
    ]
    return {"validation": rows}


def _winogrande(folder: Path, _: str) -> DataSplits:
    rows = []
    for row in _read(folder, "winogrande.jsonl.gz", ("context_options", "continuation", "gold")):
        first, second = row["context_options"]
        n = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))
        rows.append(
            {
                "sentence": f"{first[:n]}_ {row['continuation']}",
                "option1": first[n:],
                "option2": second[n:],
                "answer": str(row["gold"] + 1),
            }
        )
    return {"validation": rows}


def _super_glue(folder: Path, name: str) -> DataSplits:
    if name == "boolq":
        rows = [_boolq_row(query, gold) for query, _, gold in _choice_rows(folder, "boolq.jsonl.gz")]
    elif name == "copa":
        rows = [_copa_row(*found) for found in _choice_rows(folder, "copa.jsonl")]
    else:
        return {}
    return {"validation": rows}


def _boolq_row(query: str, gold: int) -> DataRow:
    passage, question = query.removeprefix("Passage: ").rsplit("\nQuestion: ", 1)
    return {"passage": passage, "question": question.strip().removesuffix("?"), "label": gold}


def _copa_row(query: str, choices: Sequence[str], gold: int) -> DataRow:
    premise, connector = query.rsplit(" ", 1)
    kinds = {"because": "cause", "therefore": "effect"}
    sentence = premise.removesuffix(",") + "."
    return {
        "premise": sentence,
        "choice1": choices[0],
        "choice2": choices[1],
        "question": kinds[connector],
        "label": gold,
    }


def _lambada(folder: Path, _: str) -> DataSplits:
    return {"test": _read(folder, "lambada_test.jsonl.gz", ("text",))}


def _truthfulqa(folder: Path, name: str) -> DataSplits:
    table = csv.DictReader(io.StringIO(_text(folder / "TruthfulQA.csv.gz"), newline=""))
    rows: list[DataRow] = []
    for number, row in enumerate(table, 1):
        try:
            best = _sentence(row["Best Answer"])
            correct, wrong = (_sentences(row[key]) for key in ("Correct Answers", "Incorrect Answers"))
        except (KeyError, AttributeError):
            raise UserError(
                f"{folder}: row {number} of TruthfulQA.csv lacks an answer", "fetch the file again"
            ) from None
        first, all_answers = [best, *wrong], [*correct, *wrong]
        rows.append(
            {
                "type": row["Type"],
                "category": row["Category"],
                "question": row["Question"],
                "best_answer": row["Best Answer"],
                "correct_answers": row["Correct Answers"].split("; "),
                "incorrect_answers": row["Incorrect Answers"].split("; "),
                "mc1_targets": {"choices": first, "labels": [1] + [0] * len(wrong)},
                "mc2_targets": {"choices": all_answers, "labels": [1] * len(correct) + [0] * len(wrong)},
            }
        )
    return {"validation": rows}


def _sentences(answers: str) -> list[str]:
    return [_sentence(answer) for answer in answers.strip().split(";") if answer.strip()]


def _sentence(answer: str) -> str:
    answer = answer.strip()
    return answer if answer.endswith(".") else answer + "."


def _ifeval(folder: Path, _: str) -> DataSplits:
    return {"train": _read(folder, "input_data.jsonl.gz", ("key", "prompt", "instruction_id_list"))}


def _humaneval(folder: Path, _: str) -> DataSplits:
    return {"test": _read(folder, "HumanEval.jsonl.gz", ("prompt", "test", "entry_point"))}


def _mbpp(folder: Path, _: str) -> DataSplits:
    parts = {
        "prompt": (1, 10),
        "test": (11, 510),
        "validation": (511, 600),
        "train": (601, 974),
    }  # by task_id
    rows = _read(folder, "mbpp.jsonl.gz", ("task_id", "text", "code", "test_list"))
    return {
        split: [r for r in rows if first <= r["task_id"] <= last] for split, (first, last) in parts.items()
    }


def _blimp(folder: Path, phenomenon: str) -> DataSplits:
    path = folder / "blimp.tar.gz"
    rows = _by_phenomenon(path, path.stat().st_mtime_ns).get(phenomenon)
    return {"train": rows} if rows else {}


@functools.lru_cache(maxsize=1)
def _by_phenomenon(path: Path, changed: int) -> dict[str, list[DataRow]]:
    found: dict[str, list[DataRow]] = {}
    for row in read_rows(path, ("sentence_good", "sentence_bad", "UID")):
        found.setdefault(row["UID"], []).append(row)
    return found


LAYOUTS: dict[str, tuple[str, Callable[[Path, str], DataSplits]]] = {
    "cais/mmlu": ("mmlu/mmlu.tar.gz", _mmlu),
    "hails/mmlu_no_train": ("mmlu/mmlu.tar.gz", _mmlu),
    "openai/gsm8k": ("gsm8k/test.jsonl.gz", _gsm8k),
    "Rowan/hellaswag": ("hellaswag/hellaswag_val_full.txt.bz2", _hellaswag),
    "allenai/ai2_arc": ("foundry_eval/arc_*.jsonl.gz", _arc),
    "allenai/openbookqa": ("foundry_eval/openbook_qa.jsonl", _openbookqa),
    "baber/piqa": ("foundry_eval/piqa.jsonl.gz", _piqa),
    "allenai/winogrande": ("foundry_eval/winogrande.jsonl.gz", _winogrande),
    "aps/super_glue": ("foundry_eval/{boolq,copa}.jsonl.gz", _super_glue),
    "EleutherAI/lambada_openai": ("lambada_openai/lambada_test.jsonl.gz", _lambada),
    "truthfulqa/truthful_qa": ("truthfulqa/TruthfulQA.csv.gz", _truthfulqa),
    "google/IFEval": ("ifeval/input_data.jsonl.gz", _ifeval),
    "openai/openai_humaneval": ("humaneval/HumanEval.jsonl.gz", _humaneval),
    "google-research-datasets/mbpp": ("mbpp/mbpp.jsonl.gz", _mbpp),
    "nyu-mll/blimp": ("blimp/blimp.tar.gz", _blimp),
}
"""By the hub's name: the file inside the folder of data, and its reader."""
