"""Planted folders: what somebody would put into a model's or an adapter's folder to crash, hang, fill or use a reader.

Each entry changes a copy of a valid folder and names a command that has to refuse it (or, where `accepted`, to hold).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Change = Callable[[Path], object]
DEEP = "[" * 100_000 + "]" * 100_000
LONG = "x" * 300


@dataclass(frozen=True)
class Planted:
    """A change of the sample `kind`, and the commands that meet it."""

    name: str
    kind: str
    change: Change
    commands: tuple[str, ...]
    accepted: bool = False
    slow: bool = False


def text(file: str, content: str | bytes) -> Change:
    """Write a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / file).write_bytes(data)


def edit(file: str, **changed: Any) -> Change:
    """Change keys of a JSON file; NaN and Infinity are written as Python writes them."""

    def change(folder: Path) -> None:
        path = folder / file
        found = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(found | changed))

    return change


def links(*pairs: tuple[str, str]) -> Change:
    """Symbolic links, name -> target."""

    def change(folder: Path) -> None:
        for name, target in pairs:
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(target)

    return change


def header(raw: Callable[[], bytes]) -> Change:
    """A safetensors file that is its header only."""

    def change(folder: Path) -> None:
        data = raw()
        (folder / "model.safetensors").write_bytes(len(data).to_bytes(8, "little") + data)

    return change


def tokenizer(**changed: Any) -> Change:
    """Change the parts of tokenizer.json."""
    return edit("tokenizer.json", **changed)


def _split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]}}


def _grow(content: str, n: int, kind: str = "normalizer") -> dict[str, Any]:
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": content}
    return {kind: {"type": "Sequence", f"{kind}s": [step] * n}}


def _index(shard: str) -> Change:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))

    return change


def _words(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("".join(f"{i:x}\n" for i in range(3_000_000)))


def _nan_weights(value: float) -> Change:
    def change(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        name = next(name for name in tensors if "mlp" in name)
        tensors[name][0, 0] = value
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return change


def _pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch fired'\ntR.")


MODEL = ("show", "import", "generate")
NAN, INF = float("nan"), float("inf")
FOLDERS: tuple[Planted, ...] = (
    *(
        Planted(f"{file}: {key} is {value}", "published_decoder", edit(file, **{key: value}), commands)
        for file, key, commands in (
            ("config.json", "rms_norm_eps", MODEL),
            ("config.json", "hidden_size", MODEL),
            ("config.json", "rope_theta", MODEL),
            ("generation_config.json", "temperature", ("import", "generate")),
            ("generation_config.json", "eos_token_id", ("import", "generate")),
        )
        for value in (NAN, INF, 10**400)
    ),
    *(
        Planted(f"{file}: {what}", "published_decoder", text(file, content), ("import",))
        for file in ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")
        for what, content in (
            ("nested 100,000 deep", DEEP),
            ("a list", "[]"),
            ("1e999", '{"a": 1e999}'),
            ("\\ud800", '{"a": "\\ud800"}'),
        )
        if not (file == "tokenizer.json" and what == "a list")
    ),
    Planted("lineage.json nested 100,000 deep", "decoder", text("lineage.json", DEEP), MODEL),
    Planted("lineage.json is a list", "decoder", text("lineage.json", "[]"), MODEL),
    Planted(
        "manifest.json names 300 characters",
        "decoder",
        edit("manifest.json", files={LONG: {"sha256": "0", "size": 1}}),
        ("show --json", "generate"),
    ),
    Planted(
        "manifest.json names the parent",
        "decoder",
        edit("manifest.json", files={"../x": {"sha256": "0", "size": 1}}),
        ("show --json",),
    ),
    *(
        Planted(f"index: {what}", "published_decoder", _index(name), MODEL)
        for what, name in (
            ("300 characters", LONG),
            ("NUL", "a\0b"),
            ("parent", "../x"),
            ("absolute", "/etc/passwd"),
            ("loop", "model.safetensors"),
        )
    ),
    Planted(
        "two links that point at each other",
        "published_decoder",
        links(("a", "b"), ("b", "a")),
        ("generate",),
    ),
    Planted(
        "weights are a link to themselves",
        "published_decoder",
        links(("model.safetensors", "model.safetensors")),
        MODEL,
    ),
    Planted("a link to /", "published_decoder", links(("root", "/")), ("generate",)),
    Planted("a link to /dev/zero", "published_decoder", links(("tokenizer.json", "/dev/zero")), MODEL[1:]),
    Planted("a pipe", "published_decoder", lambda folder: os.mkfifo(folder / "README.txt"), MODEL[1:]),
    Planted("a pickle", "published_decoder", _pickle, MODEL[1:]),
    Planted(
        "code", "published_decoder", text("modeling_x.py", "import os; os.system('touch fired')"), MODEL[1:]
    ),
    Planted("auto_map", "published_decoder", edit("config.json", auto_map={"AutoModel": "x.X"}), MODEL[1:]),
    Planted("NaN weights", "published_decoder", _nan_weights(NAN), ("import", "generate")),
    Planted("infinite weights", "published_decoder", _nan_weights(INF), ("import", "generate")),
    *(
        Planted(f"pattern {pattern}", "published_decoder", tokenizer(**_split(pattern)), MODEL)
        for pattern in ("(a+)+b", "(x+x+)+y", "(", "(a|aa)+$")
    ),
    Planted("a normalizer that grows 2^32 times", "published_decoder", tokenizer(**_grow("aa", 32)), MODEL),
    Planted(
        "a decoder that grows 2^32 times", "published_decoder", tokenizer(**_grow("aa", 32, "decoder")), MODEL
    ),
    Planted(
        "a normalizer that grows a million times",
        "published_decoder",
        tokenizer(**_grow("a" * 10**6, 1)),
        MODEL,
    ),
    Planted(
        "dropout",
        "published_decoder",
        lambda folder: edit(
            "tokenizer.json",
            model=json.loads((folder / "tokenizer.json").read_text())["model"] | {"dropout": 0.5},
        )(folder),
        ("import",),
        accepted=True,
    ),
    Planted(
        "a template without end",
        "published_decoder",
        text(
            "chat_template.jinja",
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        ),
        ("generate",),
    ),
    Planted(
        "a template of much memory",
        "published_decoder",
        text(
            "chat_template.jinja",
            "{{ range(100000)|list|join('x')|replace('x', range(9999)|join) }}",
        ),
        ("generate",),
    ),
    Planted(
        "a template that reads attributes",
        "published_decoder",
        text("chat_template.jinja", "{{ messages.__class__.__mro__[1].__subclasses__() }}"),
        ("generate",),
    ),
    Planted("layers without end", "published_decoder", edit("config.json", num_hidden_layers=10**9), MODEL),
    Planted("a vocabulary without end", "published_decoder", edit("config.json", vocab_size=10**15), MODEL),
    Planted(
        "an adapter on 300 characters",
        "published_adapter",
        edit("adapter_config.json", base_model_name_or_path=LONG),
        ("merge", "generate"),
    ),
    Planted(
        "an adapter on itself",
        "published_adapter",
        edit("adapter_config.json", base_model_name_or_path="."),
        ("merge", "generate"),
    ),
    Planted(
        "an adapter on NUL",
        "published_adapter",
        edit("adapter_config.json", base_model_name_or_path="\0"),
        ("merge", "generate"),
    ),
    Planted(
        "an adapter with NaN",
        "published_adapter",
        edit("adapter_config.json", lora_alpha=NAN),
        ("show", "merge"),
    ),
    Planted(
        "a header of 100 MB",
        "published_decoder",
        header(lambda: b"{" + b",".join(b'"%x":{}' % i for i in range(8_000_000)) + b"}"),
        MODEL,
        slow=True,
    ),
    Planted(
        "a header of 24 MB",
        "published_decoder",
        header(lambda: b"{" + b",".join(b'"%x":{}' % i for i in range(2_000_000)) + b"}"),
        MODEL,
        slow=True,
    ),
    Planted("a vocab.txt of 20 MB", "published_masked", _words, ("show", "import"), slow=True),
    Planted(
        "config.json of 100 MB",
        "published_decoder",
        text("config.json", "[" + "[]," * 30_000_000 + "[]]"),
        MODEL,
        slow=True,
    ),
    Planted(
        "tokenizer_config.json of ten million lists",
        "published_decoder",
        text("tokenizer_config.json", '{"a":[' + "[]," * 10_000_000 + "[]]}"),
        MODEL,
        slow=True,
    ),
)
