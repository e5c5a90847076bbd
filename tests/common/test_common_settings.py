"""Settings: typos are caught at any depth, equal values have equal digests."""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
from pathlib import Path
from typing import Literal, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import Field

import parakit
from parakit.common.errors import UserError
from parakit.common.settings import Config, canonical_json, closest_match, config_digest, load_yaml
from parakit.common.yaml_reading import parse_yaml
from parakit.training.config import TrainingConfig


class Schedule(Config):
    kind: Literal["cosine", "stable"] = "stable"
    warmup_steps: int = 100


class Cooldown(Config):
    share: float = 0.2


class Stage(Config):
    name: str
    max_steps: int = 10
    schedule: Schedule = Schedule()
    alternatives: tuple[Schedule, ...] = ()
    by_name: dict[str, Schedule] = Field(default_factory=dict)
    maybe: Schedule | None = None
    either: Schedule | Cooldown | None = None


@pytest.mark.parametrize(
    ("mapping", "path", "near"),
    [
        ({"name": "a", "max_stpes": 3}, "max_stpes", "max_steps"),
        ({"name": "a", "schedule": {"warmup_step": 3}}, "schedule.warmup_step", "warmup_steps"),
        (
            {"name": "a", "alternatives": [{}, {"warmupsteps": 3}]},
            "alternatives.1.warmupsteps",
            "warmup_steps",
        ),
        ({"name": "a", "by_name": {"x": {"kimd": "cosine"}}}, "by_name.x.kimd", "kind"),
        ({"name": "a", "maybe": {"warm_up_steps": 1}}, "maybe.warm_up_steps", "warmup_steps"),
        ({"name": "a", "either": {"shares": 1}}, "either.Cooldown.shares", "share"),
    ],
)
def test_an_unknown_key_is_refused_with_its_path_and_the_nearest_name(
    mapping: dict, path: str, near: str
) -> None:
    with pytest.raises(UserError) as caught:
        Stage.parse(mapping, where="my.yaml")
    assert "my.yaml" in caught.value.message
    assert f"unknown key `{path}`" in caught.value.message
    assert f"did you mean `{near}`?" in caught.value.hint


def test_a_key_that_resembles_nothing_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(UserError, match="known keys here: kind, warmup_steps"):
        Stage.parse({"name": "a", "schedule": {"zz": 1}})


def test_a_wrong_value_is_named_with_its_path_and_all_faults_are_reported_at_once() -> None:
    with pytest.raises(UserError) as caught:
        Stage.parse({"max_steps": "many", "schedule": {"kind": "cosin"}})
    message = str(caught.value)
    assert "`name`" in message
    assert "`max_steps`" in message
    assert "'many'" in message
    assert "`schedule.kind`" in message
    assert "'cosine' or 'stable'" in message


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(UserError):
        Stage.parse({"name": "a", 3: 4})


def test_settings_are_frozen() -> None:
    stage = Stage(name="a")
    with pytest.raises(ValueError, match="frozen"):
        stage.max_steps = 3


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("n_layer", ["n_layers", "n_heads"], "n_layers"),
        ("lerning_rate", ["learning_rate"], "learning_rate"),
        ("q", ["abc"], None),
        ("x", [], None),
    ],
)
def test_nearest_finds_the_name_that_was_meant(name: str, known: list[str], expected: str | None) -> None:
    assert closest_match(name, known) == expected


def test_replace_gives_a_validated_copy_and_keeps_what_was_set() -> None:
    stage = Stage.parse({"name": "a", "schedule": {"warmup_steps": 5}})
    other = stage.replace(max_steps=7)
    assert (other.name, other.max_steps, other.schedule.warmup_steps) == ("a", 7, 5)
    assert stage.max_steps == 10
    with pytest.raises(UserError, match="max_step"):
        stage.replace(max_step=7)


def test_digest_is_of_the_values_not_of_how_they_were_written() -> None:
    short = Stage.parse({"name": "a"})
    long = Stage.parse({"schedule": {"warmup_steps": 100, "kind": "stable"}, "max_steps": 10, "name": "a"})
    assert config_digest(short) == config_digest(long) == config_digest(short.model_dump(mode="json"))
    assert config_digest(short) != config_digest(short.replace(max_steps=11))


def test_digest_is_pinned() -> None:
    expected = "0c187fb652afca8017b5ef38178eeef09a9dfef844316f80ba4207cdf1995ee5"
    assert config_digest({"b": [1, 2.5, None, True], "a": "é"}) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_canonical_json_does_not_depend_on_the_order_of_keys(mapping: dict) -> None:
    assert canonical_json(mapping) == canonical_json(dict(reversed(list(mapping.items()))))


def _yaml(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_yaml_is_read(tmp_path: Path) -> None:
    assert load_yaml(_yaml(tmp_path, "name: é\nnested: {a: 1, b: [2, 3]}\n")) == {
        "name": "é",
        "nested": {"a": 1, "b": [2, 3]},
    }
    assert load_yaml(_yaml(tmp_path, "")) == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a: 1\nb: 2\na: 3\n", ["'a'", "line 3"]),
        ("x:\n  - y: 1\n    y: 2\n", ["'y'", "line 3"]),
        ("x: {y: 1, y: 2}\n", ["'y'", "line 1"]),
        ("? [a, b]\n: c\n", ["line 1"]),
        ("- a\n- b\n", ["list"]),
        ("just words\n", ["str"]),
        ("a:\n\tb: 1\n", ["YAML", "spaces"]),
        ("a: [1, 2\n", ["YAML"]),
        ("a: !!python/object/apply:os.getcwd []\n", ["YAML"]),
    ],
)
def test_a_faulty_yaml_file_is_refused_by_name(text: str, names: list[str], tmp_path: Path) -> None:
    path = _yaml(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_yaml(path)
    for name in [str(path), *names]:
        assert name in str(caught.value)


def test_a_missing_or_undecodable_yaml_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such recipe"):
        load_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(UserError, match=r"latin\.yaml"):
        load_yaml(tmp_path / "latin.yaml")


def test_keys_merged_by_an_anchor_are_no_duplicates(tmp_path: Path) -> None:
    text = "base: &base {a: 1, b: 2}\nother:\n  <<: *base\n  b: 3\n"
    assert load_yaml(_yaml(tmp_path, text))["other"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *(("010", 10), ("0o17", 15), ("0x3A", 58), ("-19", -19), ("1:30", "1:30"), ("1_000", "1_000")),
        *(("0b11", "0b11"), ("1e-4", 1e-4), ("-2E+05", -2e5), ("+12e03", 12e3), (".5", 0.5), ("0.", 0.0)),
        *(
            ("no", "no"),
            ("off", "off"),
            ("on", "on"),
            ("yes", "yes"),
            ("y", "y"),
            ("True", True),
            ("FALSE", False),
        ),
        *(
            ("~", None),
            ("", None),
            ("Null", None),
            ("2024-01-01", "2024-01-01"),
            ("=", "="),
            ("!!int '010'", 10),
        ),
    ],
)
def test_a_word_of_yaml_is_what_is_written(written: str, value: object, tmp_path: Path) -> None:
    """The core schema of YAML 1.2: in 1.1, 010 was 8, 1:30 was 90, no was false, and 1e-4 a string."""
    loaded = load_yaml(_yaml(tmp_path, f"a: {written}\n"))["a"]
    assert (loaded, type(loaded)) == (value, type(value))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abno01:", max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_JSON)
def test_json_is_yaml_and_means_the_same(value: object) -> None:
    assert parse_yaml(json.dumps(value)) == value


@given(st.text("0123456789abcdefxo+-._eE", min_size=1, max_size=8))
def test_a_plain_word_is_a_number_as_python_reads_it_or_the_word(word: str) -> None:
    loaded = parse_yaml(f"[{word}]") if not word.startswith("-") else [word]
    (found,) = loaded
    if isinstance(found, str):
        assert found == word
    elif isinstance(found, int):
        assert found == int(word, {"0x": 16, "0o": 8}.get(word[:2], 10))
    else:
        assert found == float(word.replace(".inf", "inf"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a: &x [*x]", "line 1"),
        ('a: "\\ud800"', "half a character"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("a: !!python/object/apply:os.system [true]", "tag"),
        (
            "a0: &a0 [1, 2]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 99}]\n" for i in range(1, 5)),
            "200000 values",
        ),
    ],
)
def test_hostile_yaml_is_refused(text: str, names: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=names):
        load_yaml(_yaml(tmp_path, text))


def test_every_float_of_every_settings_class_is_finite() -> None:
    for name in _modules_of_settings():
        importlib.import_module(name)
    checked = 0
    for cls in _subclasses(Config):
        for field, info in cls.model_fields.items():
            if info.annotation is float or float in get_args(info.annotation):
                for value in (math.nan, math.inf, -math.inf):
                    with pytest.raises(UserError, match=f"`{field}`"):
                        cls.parse({field: value})
                    checked += 1
    assert checked > 150


def _modules_of_settings() -> list[str]:
    found = pkgutil.walk_packages(parakit.__path__, "parakit.")
    return [module.name for module in found if module.name.rpartition(".")[2].endswith("config")]


def _subclasses(cls: type[Config]) -> set[type[Config]]:
    return {cls}.union(*(_subclasses(inner) for inner in cls.__subclasses__()))


OTHER_THINGS = [
    ("function_call", "function_response"),
    ("function_calls", "function_response"),
    ("max_new_tokens", "min_new_tokens"),
    ("bos_id", "eos_id"),
    ("encoder_layers", "decoder_layers"),
    ("input_ids", "output_ids"),
    ("compression_config", "quantization_config"),
    ("loss_mask", "attention_mask"),
    ("train_file", "validation_file"),
    ("chosen", "rejected"),
    ("system", "assistant"),
]


@pytest.mark.parametrize(("name", "other"), OTHER_THINGS)
def test_a_hint_never_names_another_thing(name: str, other: str) -> None:
    assert closest_match(name, [other]) is None
    assert closest_match(other, [name]) is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [("seqlen", "seq_len"), ("num_layers", "n_layers"), ("batch_size", "micro_batch_size"), ("warmup", "warmup_steps"),
     ("learningRate", "learning_rate"), ("asistant", "assistant"), ("humna", "human"), ("chat.json", "chat.jsonl")],
)  # fmt: skip
def test_a_hint_names_what_was_misspelled_shortened_or_spelled_out(name: str, meant: str) -> None:
    assert closest_match(name, [meant, "zzz"]) == meant


@given(st.sampled_from(sorted(TrainingConfig.model_fields)), st.data())
def test_every_slip_of_the_finger_is_recognised(key: str, data: st.DataObject) -> None:
    """A letter left out, doubled, or two exchanged."""
    place = data.draw(st.integers(1, len(key) - 2))
    slip = data.draw(
        st.sampled_from(
            [
                key[:place] + key[place + 1 :],
                key[:place] + key[place] + key[place:],
                key[: place - 1] + key[place] + key[place - 1] + key[place + 1 :],
            ]
        )
    )
    assume(slip != key and len(key) > 5)
    assert closest_match(slip, TrainingConfig.model_fields) is not None
