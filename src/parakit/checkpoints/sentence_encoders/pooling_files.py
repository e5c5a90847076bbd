"""How a text becomes one vector, in the files that sentence-transformers puts around a model. Torch-free.

`config.json` has no key for any of it. `modules.json` lists the modules: a Transformer (the model itself), a Pooling, Dense
layers with weights of their own, a Normalize. `sentence_bert_config.json` says where texts are cut, and
`config_sentence_transformers.json` has the prompts. Where `modules.json` has a Pooling the folder holds an embedder, whatever
class its `config.json` names. Modules of other kinds are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parakit.checkpoints.folder_safety import read_small_json, regular_file
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic
from parakit.model.config import DenseConfig, EmbedderConfig

if TYPE_CHECKING:
    from parakit.model.config import ModelConfig

MODULES, PROMPTS = "modules.json", "config_sentence_transformers.json"
# Settings of the Transformer; the first that exists is read.
_TRANSFORMER = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_ROOT_FILES = (MODULES, PROMPTS, *_TRANSFORMER)
_MODULE_FILE = re.compile(r"\d+_\w+/(config\.json|model\.safetensors)")
_MODULE_PATH = re.compile(r"\w*")
# EmbedderPooling -> (its name in `pooling_mode`, its flag in older folders), in the order in which flags are concatenated
_MODES = {
    "cls": ("cls", "pooling_mode_cls_token"),
    "max": ("max", "pooling_mode_max_tokens"),
    "mean": ("mean", "pooling_mode_mean_tokens"),
    "mean_sqrt_len": ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
    "weighted_mean": ("weightedmean", "pooling_mode_weightedmean_tokens"),
    "last": ("lasttoken", "pooling_mode_lasttoken"),
}
_WIDTH_KEYS = ("embedding_dimension", "word_embedding_dimension")
_ACTIVATIONS = {
    "identity": "torch.nn.modules.linear.Identity",
    **{
        name.lower(): f"torch.nn.modules.activation.{name}"
        for name in ("Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")
    },
}
_SENTENCE = "sentence_embedding"
_TYPES = "sentence_transformers.models."


def is_sentence_file(name: str) -> bool:
    """Whether sentence-transformers has a file of this name, relative to the folder."""
    return name in _ROOT_FILES or _MODULE_FILE.fullmatch(name) is not None


def names_embedder(folder: Path) -> bool:
    """Whether `modules.json` makes the folder's model an embedder."""
    return any(kind == "Pooling" for kind, _ in _modules(folder))


def unused_modules(folder: Path) -> list[str]:
    """Modules of a folder that is no embedder, beyond the model itself."""
    return [] if names_embedder(folder) else [kind for kind, _ in _modules(folder) if kind != "Transformer"]


def with_activation(hf_config: JsonObject, settings: Any) -> JsonObject:
    """A parsed `config.json` with the function of a cross-encoder's scores as its older versions keep it there; `settings`
    are those of `config_sentence_transformers.json`, where newer ones do.
    """
    function = settings.get("activation_fn") if isinstance(settings, dict) else None
    return (
        hf_config if function is None else {**hf_config, "sentence_transformers": {"activation_fn": function}}
    )


def read_pooling(folder: Path, default: EmbedderConfig, config: ModelConfig) -> EmbedderConfig:
    """What the folder's files say of an embedder whose trunk has `config`, or `default` where it has no `modules.json`."""
    modules = _modules(folder)
    if not modules:
        return default
    _check_order(modules, folder)
    values = _read_pooling_module(folder / modules[1][1])
    dense = [path for kind, path in modules if kind == "Dense"]
    values |= {"dense": [_read_dense(folder / path) for path in dense], "normalize": False}
    if modules[-1][0] == "Normalize":
        _check_names(folder / modules[-1][1], {"module_input_name", "module_output_name"})
        values["normalize"] = True
    values |= _read_limits(folder, config.max_seq_len) | _read_prompts(folder)
    pooling = EmbedderConfig.parse(values, str(folder / MODULES))
    for path, width in zip(dense, pooling.widths(config.d_output), strict=False):
        found = read_small_json(folder / path / "config.json").get("in_features")
        if found != width:
            raise UserError(
                f"{folder / path / 'config.json'}: `in_features` is {found!r}, and its input has {width} features",
                "the folder mixes two models: fetch it again",
            )
    return pooling


def dense_paths(folder: Path) -> list[str]:
    """The folders of the Dense modules."""
    return [path for kind, path in _modules(folder) if kind == "Dense"]


def read_sentence_files(folder: Path) -> dict[str, JsonObject | list[Any]]:
    """The JSON files of sentence-transformers in a folder, by name."""
    modules = [f"{path}/config.json" for _, path in _modules(folder) if path]
    return {
        name: read_small_json(regular_file(folder, name), list if name == MODULES else dict)
        for name in (*_ROOT_FILES, *modules)
        if (folder / name).is_file()
    }


def write_sentence_files(
    folder: Path,
    pooling: EmbedderConfig | None,
    d_output: int,
    published: Mapping[str, JsonObject | list[Any]],
    is_unchanged: bool,
) -> None:
    """The JSON files of sentence-transformers: the `published` ones where the head `is_unchanged`, else Parakit's, with what
    else was published of prompts and limits. `pooling` None: of a model with another head.
    """
    files: dict[str, Any] = dict(published) if is_unchanged else {}
    if pooling is not None and MODULES not in files:
        files = _own_modules(pooling, d_output)
        limits = next((name for name in _TRANSFORMER if name in published), _TRANSFORMER[0])
        for name, own in ((limits, _own_limits(pooling)), (PROMPTS, _own_prompts(pooling))):
            before = published.get(name)
            if isinstance(before, dict):
                files[name] = before | {key: value for key, value in own.items() if key in before or value}
            elif any(own.values()):
                files[name] = own
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_json_atomic(folder / name, content)


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Kind and path of each module of `modules.json`; none where there is no such file."""
    if not (folder / MODULES).is_file():
        return []
    found = []
    for module in read_small_json(regular_file(folder, MODULES), list):
        kind, path = (module.get("type"), module.get("path", "")) if isinstance(module, dict) else (None, "")
        if not isinstance(path, str) or not _MODULE_PATH.fullmatch(path):
            raise UserError(
                f"{folder / MODULES}: a module has the path {path!r}",
                "a module is in a folder of its own, inside the model's",
            )
        found.append((str(kind).rsplit(".", 1)[-1], path))
    return found


def _check_order(modules: list[tuple[str, str]], folder: Path) -> None:
    kinds, paths = [kind for kind, _ in modules], [path for _, path in modules]
    last = len(kinds) - (kinds[-1] == "Normalize")
    if kinds[:2] != ["Transformer", "Pooling"] or any(kind != "Dense" for kind in kinds[2:last]):
        raise UserError(
            f"{folder / MODULES}: has the modules {', '.join(kinds)}",
            "Parakit supports a Transformer, a Pooling, any number of Dense, and an optional Normalize, in this order",
        )
    if paths[0] or not all(paths[1:last]):
        raise UserError(
            f"{folder / MODULES}: has its modules in the folders {', '.join(map(repr, paths))}",
            "Parakit reads the Transformer from the model's folder itself, and the others from folders in it",
        )


def _read_pooling_module(folder: Path) -> JsonObject:
    where = folder / "config.json"
    settings = read_small_json(regular_file(folder, "config.json"))
    flags = [key for key in settings if key.startswith("pooling_mode_") and settings[key]]
    if "pooling_mode" in settings:
        chosen = settings["pooling_mode"]
        names = chosen if isinstance(chosen, list) else [chosen]
        found = [name for wanted in names for name, (hf_name, _) in _MODES.items() if hf_name == wanted]
    else:
        names = flags or ["mean"]
        found = [name for name, (hf_name, flag) in _MODES.items() if flag in flags or names == [hf_name]]
    if len(found) != len(names) or not found:
        raise UserError(
            f"{where}: unsupported pooling {', '.join(map(str, names))}",
            f"Parakit supports: {', '.join(hf_name for hf_name, _ in _MODES.values())}",
        )
    include = settings.get("include_prompt")
    return {
        "pooling": found[0] if len(found) == 1 else tuple(found),
        "include_prompt": True if include is None else include,
    }


def _read_dense(folder: Path) -> JsonObject:
    where = regular_file(folder, "config.json")
    settings = _check_names(folder, {"module_input_name", "module_output_name"})
    function = settings.get("activation_function", _ACTIVATIONS["tanh"])
    activation = next((name for name, path in _ACTIVATIONS.items() if function == path), None)
    if activation is None:
        raise UserError(
            f"{where}: `activation_function` is {function!r}", f"Parakit knows {', '.join(_ACTIVATIONS)}"
        )
    values = {
        "d_output": settings.get("out_features"),
        "activation": activation,
        "bias": settings.get("bias", True),
        "residual": settings.get("use_residual", False),
    }
    DenseConfig.parse(values, str(where))
    return values


def _check_names(folder: Path, keys: Iterable[str]) -> JsonObject:
    """The settings of a module in `folder`, whose input and output must be the text's vector; {} where it has none."""
    where = folder / "config.json"
    if not where.is_file():
        return {}
    settings: JsonObject = read_small_json(regular_file(folder, "config.json"))
    for key in keys:
        if settings.get(key) not in (None, _SENTENCE):
            raise UserError(
                f"{where}: `{key}` is {settings[key]!r}", f"Parakit supports {_SENTENCE}, the text's vector"
            )
    return settings


def _read_limits(folder: Path, max_seq_len: int) -> JsonObject:
    """Where texts are cut: by the Transformer's settings, else by the tokenizer's where the model could read on."""
    name = next((name for name in _TRANSFORMER if (folder / name).is_file()), None)
    settings = {} if name is None else read_small_json(regular_file(folder, name))
    modality = settings.get("modality_config", {"text": {"method": "forward"}})
    text = modality.get("text") if isinstance(modality, dict) else None
    neutral = {
        "transformer_task": settings.get("transformer_task", "feature-extraction") == "feature-extraction",
        "modality_config": isinstance(text, dict) and text.get("method") == "forward",
        **{key: not settings.get(key) for key in ("processing_kwargs", "query_length", "document_length")},
        "query_expansion": not settings.get("query_expansion"),
    }
    for key, is_neutral in neutral.items():
        if not is_neutral:
            raise UserError(
                f"{folder}/{name}: `{key}` is {settings[key]!r}",
                "Parakit embeds texts as they are, by the model's forward pass",
            )
    limit = settings.get("max_seq_length")
    if limit is None and (folder / "tokenizer_config.json").is_file():
        longest = read_small_json(regular_file(folder, "tokenizer_config.json")).get("model_max_length")
        limit = longest if type(longest) is int and 0 < longest < max_seq_len else None
    return {"max_seq_len": limit, "lower_case": bool(settings.get("do_lower_case"))}


def _read_prompts(folder: Path) -> JsonObject:
    if not (folder / PROMPTS).is_file():
        return {}
    settings = read_small_json(regular_file(folder, PROMPTS))
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict):
        raise UserError(f"{folder / PROMPTS}: `prompts` is {prompts!r}", "it maps names to prompts")
    return {
        "prompts": {name: "" if prompt is None else prompt for name, prompt in prompts.items()},
        "default_prompt": settings.get("default_prompt_name"),
        "truncate_dim": settings.get("truncate_dim"),
    }


def _own_modules(pooling: EmbedderConfig, d_output: int) -> dict[str, Any]:
    """`modules.json` and the settings of its modules, which older versions read too where they have such a pooling."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    flags = {flag: name in pooling.poolings for name, (_, flag) in _MODES.items()}
    settings: JsonObject = {_WIDTH_KEYS[1]: d_output, **flags}
    if pooling.poolings != tuple(name for name in _MODES if name in pooling.poolings):  # flags have no order
        settings = {
            _WIDTH_KEYS[0]: d_output,
            "pooling_mode": [_MODES[name][0] for name in pooling.poolings],
        }
    if not pooling.include_prompt:
        settings["include_prompt"] = False
    files: dict[str, Any] = {"1_Pooling/config.json": settings}
    for layer, d_input in zip(pooling.dense, pooling.widths(d_output), strict=False):
        path = f"{len(modules)}_Dense"
        modules.append((path, "Dense"))
        files[f"{path}/config.json"] = {
            "in_features": d_input,
            "out_features": layer.d_output,
            "bias": layer.bias,
            "activation_function": _ACTIVATIONS[layer.activation],
            **({"use_residual": True} if layer.residual else {}),
        }
    if pooling.normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": _TYPES + kind}
        for i, (path, kind) in enumerate(modules)
    ]
    return {MODULES: entries, **files}


def _own_limits(pooling: EmbedderConfig) -> JsonObject:
    return {"max_seq_length": pooling.max_seq_len, "do_lower_case": pooling.lower_case}


def _own_prompts(pooling: EmbedderConfig) -> JsonObject:
    return {
        "prompts": pooling.prompts,
        "default_prompt_name": pooling.default_prompt,
        **({} if pooling.truncate_dim is None else {"truncate_dim": pooling.truncate_dim}),
    }
