"""Headers of untrusted GGUF files, and quantized blocks against the `gguf` package."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from hypothesis import given
from hypothesis import strategies as st

from parakit.checkpoints.gguf.dequantization import BLOCKS, KIND_NAMES, dequantize
from parakit.checkpoints.gguf.reader import is_gguf, read_gguf
from parakit.common import UserError
from parakit.common.errors import CorruptArtifact
from tests.short_suite import examples


@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_are_dequantized_to_the_bit(kind: str) -> None:
    """Random bytes: every scale and number occurs, infinities and NaN too."""
    number = GGMLQuantizationType[kind]
    per_block, block_bytes, _ = BLOCKS[kind]
    assert (per_block, block_bytes) == gguf.GGML_QUANT_SIZES[number]
    raw = np.random.default_rng(len(kind)).integers(0, 256, (6, 64 * block_bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = np.ascontiguousarray(gguf.quants.dequantize(raw, number)).reshape(-1)
        found = dequantize(raw.reshape(-1), kind)
    nan = np.isnan(expected)
    assert (np.isnan(found) == nan).all()
    assert (found.view(np.uint32) == expected.view(np.uint32))[~nan].all()


def test_kinds_have_ggmls_numbers() -> None:
    assert all(GGMLQuantizationType[name].value == number for number, name in KIND_NAMES.items())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> bytes:
    """A file with every type of metadata and two tensors."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = GGUFWriter(path, "llama")
    for kind, value in (
        ("uint8", 1),
        ("int16", -2),
        ("uint32", 3),
        ("int64", -4),
        ("float32", 1e-5),
        ("float64", 0.5),
    ):
        getattr(writer, f"add_{kind}")(f"a.{kind}", value)
    writer.add_bool("a.bool", True)
    writer.add_string("a.string", "\u00e9")
    writer.add_array("a.strings", ["x", ""])
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_array("a.bools", [True, False])
    writer.add_tensor("one", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("two", np.arange(64, dtype=np.float16).reshape(1, 64))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def written(folder: Path, data: bytes) -> Path:
    path = folder / "file.gguf"
    path.write_bytes(data)
    return path


def test_metadata_and_weights_come_back(tiny: bytes, tmp_path: Path) -> None:
    file = read_gguf(written(tmp_path, tiny))
    expected = {
        "uint8": 1,
        "int16": -2,
        "uint32": 3,
        "int64": -4,
        "float32": 1e-5,
        "float64": 0.5,
        "bool": True,
    }
    expected |= {"string": "\u00e9", "strings": ["x", ""], "numbers": [1, 2, 3], "bools": [True, False]}
    assert {k.removeprefix("a."): v for k, v in file.metadata.items() if k.startswith("a.")} == expected
    assert file.weights("one").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert file.weights("two").shape == (1, 64)


def test_a_file_cut_anywhere_is_refused(tiny: bytes, tmp_path: Path) -> None:
    last = len(tiny) - (32 - 128 % 32) % 32  # behind it only padding
    for n in [*range(0, last, 5), last - 1]:
        assert refusal(lambda n=n: read_gguf(written(tmp_path, tiny[:n]))) is not None, n


def refusal(call: Callable[[], object]) -> UserError | None:
    """The user's error that `call` raises, if any; every other error fails the test."""
    try:
        call()
    except UserError as error:
        return error
    return None


@given(position=st.integers(0, 700), value=st.integers(0, 255))
@examples(120)
def test_a_changed_byte_raises_nothing_but_a_users_error(
    tiny: bytes, tmp_path: Path, position: int, value: int
) -> None:
    data = bytearray(tiny)
    data[min(position, len(data) - 1)] = value

    def read_all() -> None:
        file = read_gguf(written(tmp_path, bytes(data)))
        for name in file.tensors:
            file.weights(name)

    error = refusal(read_all)
    assert error is None or error.hint


@given(offset=st.integers(0, 1500), count=st.sampled_from([2**64 - 1, 2**63, 2**40, 2**31, 10**7]))
@examples(80)
def test_an_absurd_count_anywhere_takes_no_memory(
    tiny: bytes, tmp_path: Path, offset: int, count: int
) -> None:
    offset = min(offset, len(tiny) - 8)
    data = tiny[:offset] + struct.pack("<Q", count) + tiny[offset + 8 :]
    error = refusal(lambda: read_gguf(written(tmp_path, data)))
    assert error is None or error.hint


def test_files_of_other_kinds_are_named(tiny: bytes, tmp_path: Path) -> None:
    def patched(at: int, value: bytes) -> bytes:
        return tiny[:at] + value + tiny[at + len(value) :]

    two = tiny.index(b"two")
    cases = {
        "before GGUF": b"tjgg" + tiny[4:],
        "begins with b'PK": b"PK\x03\x04" + tiny[4:],
        "big-endian": patched(4, struct.pack(">I", 3)),
        "version 1 ": patched(4, struct.pack("<I", 1)),
        "version 9 ": patched(4, struct.pack("<I", 9)),
        "claims 18446744073709551615 tensors; 200000": patched(8, b"\xff" * 8),
        "claims 1099511627776 metadata keys; 10000": patched(16, struct.pack("<Q", 2**40)),
        "quantized as IQ4_XS": patched(two + 3 + 4 + 16, struct.pack("<I", 23)),
        "quantized as number 99": patched(two + 3 + 4 + 16, struct.pack("<I", 99)),
        "not a multiple of 32": patched(two + 3 + 4 + 16 + 4, struct.pack("<Q", 33)),
        "inside the one before it": patched(two + 3 + 4 + 16 + 4, struct.pack("<Q", 0)),
        "has 7 dimensions": patched(two + 3, struct.pack("<I", 7)),
        "has 3 bytes": b"GGU",
        "two tensors called 'one'": patched(two, b"one"),
    }
    for message, data in cases.items():
        with pytest.raises(UserError, match=message) as refusal:
            read_gguf(written(tmp_path, data))
        assert refusal.value.hint, message
    with pytest.raises(CorruptArtifact, match="Q8_0 stores rows in blocks of 32"):
        read_gguf(written(tmp_path, patched(tiny.index(b"one") + 3 + 4 + 16, struct.pack("<I", 8))))


def test_parts_and_other_contents_are_refused(tmp_path: Path) -> None:
    for fields, message in (
        ({"split.count": 3}, "split into 3"),
        ({"general.type": "adapter"}, "type 'adapter'"),
        ({"general.alignment": 24}, "alignment` is 24"),
    ):
        path = tmp_path / "part.gguf"
        writer = GGUFWriter(path, "llama")
        for key, value in fields.items():
            (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
        writer.add_tensor("one", np.zeros(4, np.float32))
        writer.data_alignment = 32
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(UserError, match=message):
            read_gguf(path)
    assert is_gguf(path)
    assert not is_gguf(tmp_path)
