"""No rule is trusted that was not seen to fail: each is run on a planted violation, and on its innocent
neighbour.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import import_graph
import import_rules
import prose_rules
import pytest
import size_rules
import surface_rules
import vocabulary_rules

DOC = '"""A package."""\n'
PASS = "    pass\n"

# (rule, file, violating source, innocent source)
PLANTED: list[tuple[Callable[[Path], list[str]], str, str, str]] = [
    (
        import_rules.packages_out_of_order,
        "data/a.py",
        "from parakit.primer import x",
        "from parakit.common import x",
    ),
    (
        import_rules.packages_out_of_order,
        "tokens/a.py",
        "def f():\n    import parakit.model",
        "import parakit.data",
    ),
    (
        import_rules.packages_out_of_order,
        "model/a.py",
        "from parakit import tokens",
        "from parakit import common",
    ),
    (import_rules.packages_out_of_order, "model/a.py", "from ..tokens import x", "from .blocks import x"),
    (
        import_rules.packages_out_of_order,
        "model/inner/a.py",
        "from ...tokens import x",
        "from ..blocks import x",
    ),
    (
        import_rules.packages_out_of_order,
        "inference/a.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from parakit.training import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from parakit.model import x",
    ),
    (import_rules.packages_out_of_order, "recipe/a.py", "import parakit.serving", "import parakit.alignment"),
    (import_rules.packages_out_of_order, "serving/a.py", "import parakit.cli", "import parakit.evaluation"),
    (import_rules.packages_out_of_order, "recipe/a.py", "import parakit.cli.main", "import parakit"),
    (import_rules.packages_out_of_order, "kitchen/a.py", "x = 1", None),
    (import_rules.packages_out_of_order, "recipe/a.py", "import parakit.api", "import parakit.stages"),
    (import_rules.torch_where_it_must_not_be, "common/a.py", "import torch", "def f():\n    import torch"),
    (
        import_rules.torch_where_it_must_not_be,
        "tokens/a.py",
        "try:\n    from torch import nn\nexcept ImportError:\n    pass",
        "import numpy",
    ),
    (import_rules.torch_where_it_must_not_be, "cli/a.py", "import torch.nn", "def f():\n    import torch.nn"),
    (
        import_rules.torch_where_it_must_not_be,
        "data/a.py",
        "def f():\n    import torch",
        "def f():\n    import pyarrow",
    ),
    (import_rules.torch_where_it_must_not_be, "model/config.py", "import torch", "import math"),
    (import_rules.torch_where_it_must_not_be, "model/__init__.py", "import torch", "import math"),
    (
        import_rules.foreign_packages_out_of_place,
        "recipe/a.py",
        "def f():\n    import fastapi",
        "def f():\n    import rich",
    ),
    (import_rules.foreign_packages_out_of_place, "model/a.py", "import pandas", "import torch"),
    (
        import_rules.foreign_packages_out_of_place,
        "model/a.py",
        "def f():\n    import transformers",
        "import json",
    ),
    (
        import_rules.foreign_packages_out_of_place,
        "training/a.py",
        "import trafilatura",
        "import tensorboardX",
    ),
    (
        import_rules.foreign_packages_out_of_place,
        "inference/a.py",
        "import trafilatura",
        "def f():\n    import trafilatura",
    ),
    (import_rules.foreign_packages_out_of_place, "model/a.py", "import uvicorn", "import numpy"),
    (vocabulary_rules.private_words, "data/a.py", "def f(beside): ...", "def f(neighbour): ..."),
    (vocabulary_rules.private_words, "data/a.py", "class Lesson: ...", "class Task: ..."),
    (prose_rules.private_prose_in_code, "data/a.py", "raise E('as it was told')", "raise E('as it was set')"),
    (
        prose_rules.private_prose_in_code,
        "data/a.py",
        'x = 1\n"""A file of theirs."""',
        '"""Like `theirs` in git."""',
    ),
    (size_rules.long_files, "model/a.py", "x = 1\n" * 401, "x = 1\n" * 400),
    (size_rules.long_functions, "model/a.py", "def f():\n" + PASS * 60, "def f():\n" + PASS * 59),
    (
        size_rules.long_functions,
        "model/a.py",
        "class A:\n  async def f(self):\n" + PASS * 60,
        "class A:\n" + PASS * 80,
    ),
    (size_rules.empty_names, "model/utils.py", "x = 1", None),
    (size_rules.empty_names, "model/text_helpers.py", "x = 1", None),
    (size_rules.empty_names, "helpers/a.py", "x = 1", None),
    (size_rules.empty_names, "model/test_utils.py", "x = 1", None),
    (size_rules.unfinished_code, "model/a.py", "x = 1  # TO" + "DO: more", "x = 1  # why"),
    (
        size_rules.unfinished_code,
        "model/a.py",
        "def f():\n    raise NotImplementedError",
        "def f():\n    raise ValueError",
    ),
    (vocabulary_rules.synonyms, "model/a.py", "n_embd = 1", "d_model = 1"),
    (vocabulary_rules.synonyms, "model/a.py", "def f(hidden_size): ...", "f(hidden_size=1)"),
    (vocabulary_rules.synonyms, "model/a.py", "def f(*, dim: int = -1): ...", "x.sum(dim=-1)"),
    (
        vocabulary_rules.synonyms,
        "model/a.py",
        "class A:\n    block_size: int = 3",
        "class A:\n    max_seq_len: int = 3",
    ),
    (
        vocabulary_rules.synonyms,
        "model/a.py",
        "class A:\n    def f(self):\n        self._lr = 1",
        "group.lr = 1",
    ),
    (vocabulary_rules.synonyms, "training/a.py", "lr: float = 0.1", "optimizer = AdamW(p, lr=0.1)"),
    (vocabulary_rules.synonyms, "training/a.py", "for idx in range(3): ...", "for row in range(3): ..."),
    (vocabulary_rules.synonyms, "training/a.py", "if (wd := 3): ...", "group['lr'] = 3"),
    (
        vocabulary_rules.synonyms,
        "training/a.py",
        "from m import perplexity as ppl",
        "from m import ppl as perplexity",
    ),
    (vocabulary_rules.synonyms, "tokens/a.py", "bos_token_id = 1", "bos_id = config.bos_token_id"),
    (vocabulary_rules.synonyms, "model/a.py", "f = lambda idx: 1", "f = lambda row: 1"),
    (
        vocabulary_rules.public_synonyms,
        "model/a.py",
        "def f(mask): ...",
        "def f(loss_mask):\n    mask = loss_mask",
    ),
    (
        vocabulary_rules.public_synonyms,
        "model/a.py",
        "class A:\n    ignore_index: int = -100",
        "class _A:\n    mask: int",
    ),
    (vocabulary_rules.class_suffixes, "model/a.py", "class TrainArgs: ...", "class TrainConfig: ..."),
    (vocabulary_rules.class_suffixes, "model/a.py", "class OursForCausalLM: ...", "class LanguageModel: ..."),
    (
        vocabulary_rules.foreign_weight_names,
        "model/a.py",
        "x = 'model.layers.0.self_attn.q_proj'",
        "x = 'blocks.0'",
    ),
    (
        vocabulary_rules.foreign_weight_names,
        "model/a.py",
        "x = f'{i}.c_attn.weight'",
        '"""As c_attn there."""',
    ),
    (
        surface_rules.init_files_with_code,
        "model/__init__.py",
        DOC + "__all__ = []\nx = 1",
        DOC + "__all__ = []",
    ),
    (
        surface_rules.init_files_with_code,
        "model/__init__.py",
        DOC + "__all__ = []\ndef f(): ...",
        DOC + "import a\n__all__ = ['a']",
    ),
    (
        surface_rules.init_files_with_code,
        "model/__init__.py",
        "__all__ = []",
        DOC + "__all__ = []\n__getattr__, __dir__ = f()",
    ),
    (surface_rules.init_files_with_code, "model/__init__.py", DOC + "import a", DOC),
    (surface_rules.modules_without_docstring, "model/a.py", "x = 1", DOC),
    (
        surface_rules.changed_clocks,
        "test_a.py",
        "monkeypatch.setattr(trainer.time, 'monotonic', later)",
        "monkeypatch.setattr(trainer, 'time', later)",
    ),
    (
        surface_rules.changed_clocks,
        "test_a.py",
        "m.setattr('parakit.training.time.sleep', later)",
        "m.setattr('parakit.training.time', later)",
    ),
    (surface_rules.stray_printing, "model/a.py", "print(1)", "log(1)"),
    (
        surface_rules.stray_printing,
        "training/a.py",
        "import sys\nsys.stdout.write('x')",
        "import sys\nsys.stdout.isatty()",
    ),
    (
        surface_rules.stray_printing,
        "training/a.py",
        "def f():\n    from rich.table import Table",
        "import json",
    ),
    (
        surface_rules.untyped_public_functions,
        "model/a.py",
        "def f(x) -> int: ...",
        "def f(x: int) -> int: ...",
    ),
    (surface_rules.untyped_public_functions, "model/a.py", "def f(): ...", "def _f(x): ..."),
    (
        surface_rules.untyped_public_functions,
        "model/a.py",
        "class A:\n    def __init__(self, x): ...",
        "class A:\n    def __init__(self): ...",
    ),
]


def _write(src: Path, name: str, source: str) -> Path:
    path = src / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source + "\n" if not source.endswith("\n") else source, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("rule", "name", "violating", "innocent"),
    PLANTED,
    ids=[f"{n}-{row[0].__name__}" for n, row in enumerate(PLANTED)],
)
def test_rule_catches_the_planted_violation_only(
    rule: Callable[[Path], list[str]], name: str, violating: str, innocent: str | None, tmp_path: Path
) -> None:
    _write(tmp_path / "bad", name, violating)
    found = rule(tmp_path / "bad")
    assert len(found) == 1, found
    assert name.split("/")[-1] in found[0]
    if innocent is not None:
        _write(tmp_path / "good", name, innocent)
        assert rule(tmp_path / "good") == []


@pytest.mark.parametrize("rule", [vocabulary_rules.synonyms, vocabulary_rules.foreign_weight_names])
def test_checkpoints_may_know_foreign_names(rule: Callable[[Path], list[str]], tmp_path: Path) -> None:
    _write(
        tmp_path, "checkpoints/qwen3.py", "hidden_size = 1\nbos_token_id = 2\nNAMES = ['self_attn.q_proj']"
    )
    assert rule(tmp_path) == []


def test_rooms_that_may_print_may_print(tmp_path: Path) -> None:
    for name in ("cli/a.py", "reports/a.py", "common/progress.py"):
        _write(tmp_path, name, "import rich\nprint(1)")
    assert surface_rules.stray_printing(tmp_path) == []


def test_a_full_folder_is_noticed(tmp_path: Path) -> None:
    for number in range(20):
        _write(tmp_path, f"model/a{number}.py", "x = 1")
    assert size_rules.full_folders(tmp_path) == []
    _write(tmp_path, "model/one_more.py", "x = 1")
    assert len(size_rules.full_folders(tmp_path)) == 1


def test_serving_may_import_the_web_framework_at_the_top(tmp_path: Path) -> None:
    _write(tmp_path, "serving/a.py", "import fastapi\nimport uvicorn")
    assert import_rules.foreign_packages_out_of_place(tmp_path) == []


def test_an_export_that_a_module_hides_is_noticed(tmp_path: Path) -> None:
    _write(tmp_path, "model/__init__.py", DOC + "__all__ = ['build', 'Thing']")
    _write(tmp_path, "model/thing.py", "x = 1")
    _write(tmp_path, "data/__init__.py", DOC + "from parakit.data.read import read\n__all__ = ['read']")
    _write(tmp_path, "data/read.py", "def read(): ...")
    assert surface_rules.exports_hidden_by_a_module(tmp_path) == []
    _write(tmp_path, "model/build.py", "x = 1")
    assert len(surface_rules.exports_hidden_by_a_module(tmp_path)) == 1


def test_an_annotated_list_of_exports_is_read(tmp_path: Path) -> None:
    _write(tmp_path, "cli/__init__.py", DOC + "__all__: list[str] = []")
    assert surface_rules.init_files_with_code(tmp_path) == []
    assert surface_rules.exports(tmp_path) == []


def test_every_room_of_the_table_is_a_room_of_the_table() -> None:
    packages = set(import_rules.MAY_IMPORT)
    for package, allowed in import_rules.MAY_IMPORT.items():
        assert allowed <= packages, package
        assert package not in allowed
    assert not any("cli" in allowed for package, allowed in import_rules.MAY_IMPORT.items() if package)


def test_the_table_has_no_circle() -> None:
    done: set[str] = set()
    while len(done) < len(import_rules.MAY_IMPORT):
        ready = {
            package
            for package, allowed in import_rules.MAY_IMPORT.items()
            if package not in done and allowed <= done
        }
        assert ready, sorted(set(import_rules.MAY_IMPORT) - done)
        done |= ready


def test_exports_are_read_from_all_and_a_change_is_seen(tmp_path: Path) -> None:
    _write(tmp_path, "model/__init__.py", DOC + "__all__ = ['B', 'A']")
    _write(tmp_path, "model/inner/__init__.py", DOC + "__all__ = ['C']")
    assert surface_rules.exports(tmp_path) == ["parakit.model.A", "parakit.model.B", "parakit.model.inner.C"]


def test_a_circle_that_is_hidden_in_a_function_or_behind_a_lazy_export_is_noticed(tmp_path: Path) -> None:
    lazy = DOC + "__getattr__, __dir__ = lazy_exports(__name__, {'B': 'b'})\n__all__ = ['B']"
    _write(tmp_path, "data/__init__.py", lazy)
    _write(tmp_path, "data/a.py", "def f():\n    from parakit.data import B")
    _write(tmp_path, "data/b.py", "from parakit.data import c")
    _write(tmp_path, "data/c.py", "x = 1")
    assert import_graph.import_circles(tmp_path) == []
    _write(tmp_path, "data/c.py", "if TYPE_CHECKING:\n    from .a import f")
    assert len(import_graph.import_circles(tmp_path)) == 1


def test_an_export_that_nobody_imports_is_noticed(tmp_path: Path) -> None:
    _write(tmp_path, "src/data/__init__.py", DOC + "__all__ = ['A', 'B']")
    _write(tmp_path, "tests/test_a.py", "from parakit.data import A")
    found = surface_rules.unused_exports(tmp_path / "src", [tmp_path / "tests"])
    assert [line.partition(":")[0] for line in found] == ["parakit.data.B"]


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("class Row: ...", "class Row: ...", True),
        ("class Row: ...", "Row = dict[str, int]", True),
        ("class Row: ...", "class _Row: ...\nRows = list[_Row]", False),
        ("T = TypeVar('T')\nItem = TypeVar('Item')", "T = TypeVar('T')\nItem = TypeVar('Item')", False),
        ("ROW = 1", "ROW = 2", False),
    ],
)
def test_a_name_that_two_modules_define_is_noticed(
    first: str, second: str, shared: bool, tmp_path: Path
) -> None:
    _write(tmp_path, "data/a.py", first)
    _write(tmp_path, "model/b.py", second)
    assert bool(surface_rules.shared_names(tmp_path)) == shared
