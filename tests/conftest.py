"""What every test gets: reproducible property tests, a place for public data, one thread for torch where
torch is used.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.short_suite import SHORT_SHARE, choose_suite

ROOT = Path(__file__).resolve().parents[1]
pytest_plugins = ["tests.tiny_builds", "tests.tiny_published"]

# Threads are set in the environment, before a test imports torch: importing it here would cost every run.
# `OMP_NUM_THREADS=4 make test` runs the suite with four.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
# A server that a test starts writes its ledger here, not into the user's.
_accounts = tempfile.TemporaryDirectory(prefix="parakit-accounts-", ignore_cleanup_errors=True)
os.environ["PARAKIT_ACCOUNTS"] = os.path.join(_accounts.name, "accounts.sqlite")
atexit.register(_accounts.cleanup)

gc.disable()  # until the tests are collected: see pytest_collection_finish

settings.register_profile(
    "long",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("short", settings.get_profile("long"), max_examples=100 // SHORT_SHARE)


def _no_fsync(descriptor: int) -> None:
    """Waiting for the disk tests nothing: what is durable shows when the power fails. A closed descriptor is refused."""
    os.fstat(descriptor)


os.fsync = _no_fsync


def pytest_configure(config: pytest.Config) -> None:
    choose_suite(config.option.markexpr)


def pytest_collection_finish() -> None:
    """What collecting made stays until the end: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def public_data() -> Callable[[str], Path]:
    """`public_data("tok_gpt2")`: a folder of the public data sets, or a skip that says where it was looked
    for.
    """
    home = Path(os.environ.get("PARAKIT_DATA") or ROOT.parent / "shared" / "data")

    def folder(name: str) -> Path:
        path = home / name
        if not path.is_dir():
            pytest.skip(f"public data {name!r} is not at {home} (set PARAKIT_DATA)")
        return path

    return folder


@pytest.fixture(scope="session")
def published_model() -> Callable[[str], Path]:
    """`published_model("smollm2")`: what `parakit import` takes for it, or a skip that says how to fetch it."""

    def path(name: str) -> Path:
        from tests.real_models import find_model, models_folder

        found = find_model(name)
        if found is None:
            pytest.skip(f"the published model {name!r} is not at {models_folder()} (run make real-models)")
        return found

    return path


@pytest.fixture(scope="session")
def smollm2_folder(published_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published chat model as transformers writes it: a folder to load, tune and compare."""
    published_model("smollm2")
    from tests.real_models import transformers_folder

    source, folder = transformers_folder(), tmp_path_factory.mktemp("real") / "smollm2"
    assert source is not None
    shutil.copytree(source, folder, copy_function=_link_or_copy)
    config = json.loads((folder / "config.json").read_text())
    config.pop("_model_name_or_path", None)
    (folder / "config.json").unlink()  # a link's other name keeps its content
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


@pytest.fixture(scope="session")
def imported_smollm2(published_model: Callable[[str], Path]) -> Iterator[Path]:
    """SmolLM2-135M-Instruct as `parakit import` writes it from the GGUF file: once a session, so that what is measured
    is never an older version's import.
    """
    from parakit.checkpoints.import_export import import_model
    from tests.real_models import models_folder

    file = published_model("smollm2")
    with tempfile.TemporaryDirectory(prefix="smollm2-", dir=models_folder()) as folder:
        yield import_model(str(file), Path(folder) / "smollm2")


@pytest.fixture(scope="session")
def isolation() -> str:
    """The kind of isolation that confines generated programs here, or a skip that says why there is none."""
    from parakit.sandbox.fork_server import SandboxError
    from parakit.sandbox.pool import available_isolation

    try:
        return available_isolation()
    except SandboxError as error:
        pytest.skip(f"not on this machine: {error.message}")


@pytest.fixture(autouse=True)
def _quiet_torch() -> None:
    """A fixed number of threads and a fixed seed for torch, in tests that have imported it."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches and home of a test are its own: nothing is read from or written to the developer's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch computes what compiled kernels do else."""
    monkeypatch.setenv("PARAKIT_KERNELS", "off")
