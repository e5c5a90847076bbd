"""Every published config.json loads, or is refused for a reason that is true; and is written again as it was."""

import pytest

from parakit.checkpoints import publisher, registry
from parakit.checkpoints.hf_config import UnknownKeys
from parakit.common import UserError
from tests.checkpoints.architectures.published_configs import PUBLISHED, REFUSED

# allowed differences between a published config.json and the one that Parakit writes
ADDED = {"architectures", "pad_token_id"}  # a missing class; the PAD of a decoder's classifier


def test_there_are_enough_of_them():
    assert len(PUBLISHED) >= 140
    loaded = [name for name in PUBLISHED if _is_loadable(name)]
    assert len(loaded) >= 100


def _is_loadable(name: str) -> bool:
    return name not in REFUSED and PUBLISHED[name]["model_type"] in registry.ARCHITECTURES


def _read(name: str):
    architecture, head = registry.architecture_of(PUBLISHED[name], name)
    return architecture, head, architecture.read_settings(PUBLISHED[name], name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_loads_and_is_written_again_or_is_refused_for_a_true_reason(name):
    hf_config = PUBLISHED[name]
    if _is_loadable(name):
        architecture, head, config = _read(name)
        written = publisher.config_json(architecture, config, head, "float32", None)
        came_with = publisher.Publisher(head, hf_config, written, {}, {}, {})
        assert publisher.choose_architecture(config, head, came_with) is architecture
        saved = publisher.saved_config(came_with, written, architecture, config, head)
        changed = {key for key in saved.keys() | hf_config.keys() if saved.get(key) != hf_config.get(key)}
        assert changed <= (ADDED - hf_config.keys()) | {"quantization_config"}  # weights are saved plain
        return
    with pytest.raises(UserError) as caught:
        _read(name)
    assert not isinstance(caught.value, UnknownKeys)
    unknown_type = f"holds a model of type {hf_config['model_type']!r}"
    if hf_config["model_type"] in registry.ARCHITECTURES:
        assert REFUSED[name] in caught.value.message
    else:
        assert unknown_type in caught.value.message
