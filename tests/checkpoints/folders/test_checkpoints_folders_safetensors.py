"""A safetensors file is believed only as far as it was checked."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.checkpoints.safetensors_io import folder_tensors, read_header, read_tensors
from parakit.common import CorruptArtifact, UserError

HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    "empty": {"dtype": "F32", "shape": [0, 5], "data_offsets": [32, 32]},
}


def write(path, header=HEADER, data=bytes(32), n_header=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if n_header is None else n_header) + raw + data)
    return path


def changed(name, **changes):
    return HEADER | {name: HEADER[name] | changes}


def test_a_sound_file_is_read_as_the_library_reads_it(tmp_path):
    from safetensors.numpy import save_file

    tensors = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.arange(4, dtype=np.int64)}
    save_file(tensors, tmp_path / "s.safetensors", metadata={"format": "pt"})
    entries = read_header(tmp_path / "s.safetensors")
    assert {name: entry.shape for name, entry in entries.items()} == {"x": (2, 3), "y": (4,)}
    for name, tensor in read_tensors(entries):
        assert np.array_equal(tensor.numpy(), tensors[name])
    assert list(read_header(write(tmp_path / "t.safetensors"))) == ["a", "b", "empty"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (changed("b", data_offsets=[20, 28]), "overlaps"),
        (changed("b", data_offsets=[25, 33]), "gap"),
        (changed("a", data_offsets=[0, 20]), "takes 24 bytes"),
        (changed("a", shape=[2, 4]), "takes 32 bytes"),
        (changed("a", data_offsets=[24, 0]), "takes 24 bytes"),
        (changed("a", data_offsets=[-24, 0]), "no proper"),
        (changed("a", data_offsets=[0, 2**64]), "no proper"),
        (changed("a", shape=[2**62, 2**62]), "takes"),
        (changed("a", shape=[2.0, 3]), "no proper"),
        (changed("a", shape="23"), "no proper"),
        (changed("a", dtype="F31"), "dtype 'F31'"),
        (changed("a", dtype=["F32"]), "no proper"),
        ({"a": HEADER["a"]}, "32 follow"),
        ({"a": [1, 2]}, "no proper"),
        ([1, 2], "not a mapping"),
        (b'{"a": {"dtype": "F32"', "not readable"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"\xff\xfe", "not readable"),
        (b"[" * 100_000, "not readable"),
    ],
)
def test_a_wrong_header_is_refused_naming_the_file(tmp_path, header, message):
    path = write(tmp_path / "bad.safetensors", header)
    with pytest.raises(UserError, match=message) as error:
        read_header(path)
    assert "bad.safetensors" in str(error.value)


@pytest.mark.parametrize("n_header", [0, 2**63, 10_000, 99_999_999_999])
def test_a_header_longer_than_the_file_is_refused(tmp_path, n_header):
    with pytest.raises(CorruptArtifact):
        read_header(write(tmp_path / "x.safetensors", n_header=n_header))


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = write(tmp_path / "x.safetensors").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "x.safetensors").write_bytes(whole[:length])
        with pytest.raises(CorruptArtifact, match=r"x\.safetensors"):
            read_header(tmp_path / "x.safetensors")


@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_any_flipped_byte_is_refused_or_harmless(tmp_path_factory, position, value):
    """Whatever one byte is changed to: a refusal that names the file, or entries that still lie inside it."""
    path = write(tmp_path_factory.mktemp("flip") / "x.safetensors")
    raw = bytearray(path.read_bytes())
    raw[position % (len(raw) - 32)] = value
    path.write_bytes(raw)
    try:
        entries, message = read_header(path), ""
    except UserError as error:
        entries, message = {}, str(error)
    assert "x.safetensors" in message or max(entry.stop for entry in entries.values()) == 32


def write_index(folder, weight_map):
    write(folder / "one.safetensors", {"a": HEADER["a"]}, bytes(24))
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )


def test_shards_must_hold_what_the_index_promises(tmp_path):
    write_index(tmp_path, {"a": "one.safetensors"})
    assert list(folder_tensors(tmp_path)) == ["a"]
    write_index(tmp_path, {"a": "one.safetensors", "z": "one.safetensors"})
    with pytest.raises(CorruptArtifact, match="lacks the tensor 'z'"):
        folder_tensors(tmp_path)
    write_index(tmp_path, {"z": "one.safetensors"})
    with pytest.raises(CorruptArtifact):
        folder_tensors(tmp_path)
    write_index(tmp_path, {"a": "two.safetensors"})
    with pytest.raises(UserError, match=r"two\.safetensors: no such file"):
        folder_tensors(tmp_path)
    write_index(tmp_path, ["a"])
    with pytest.raises(CorruptArtifact, match="weight_map"):
        folder_tensors(tmp_path)


@pytest.mark.parametrize(
    "shard", ["../out.safetensors", "/etc/passwd", "sub/x.safetensors", "..\\x", "..", "", "."]
)
def test_a_shard_outside_the_folder_is_refused(tmp_path, shard):
    (tmp_path / "m").mkdir()
    write(tmp_path / "out.safetensors", {"a": HEADER["a"]}, bytes(24))
    write_index(tmp_path / "m", {"a": shard})
    with pytest.raises(UserError):
        folder_tensors(tmp_path / "m")
