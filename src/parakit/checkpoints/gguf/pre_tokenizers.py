"""How a byte-level BPE splits text before it merges: by the name in `tokenizer.ggml.pre`.

The steps are those of the published tokenizer.json files that llama.cpp identifies by each name. `default`, which old
files have or imply, is what llama.cpp does with it; what the publisher meant is not recorded.
"""

from __future__ import annotations

from dataclasses import dataclass

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import closest_match
from parakit.tokens.tokenizer.fast_encoding import PATTERNS

DEFAULT = "default"
NORMALIZER = "parakit.normalizer"
"""Parakit's own key: what normalizes text, where it is not what the splitting's name implies."""
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_START, _SPACES = r"[^\r\n\p{L}\p{N}]?", r"\s*[\r\n]+|\s+(?!\S)|\s+"
# Mistral's tekken: case_aware without contractions, each digit alone
_TEKKEN = rf"{_START}[{_UPPER}]*[{_LOWER}]+|{_START}[{_UPPER}]+[{_LOWER}]*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
# Qwen3.5: one_digit, with combining marks in words
_QWEN35 = (
    rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|{_START}[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_CJK = r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
)


@dataclass(frozen=True)
class Splitting:
    """The patterns by which text is split one after another, and what else a name implies."""

    patterns: tuple[str, ...]
    normalizer: str | None = None
    ignore_merges: bool = False
    """A piece that is a token is not split, whatever the merges say."""
    add_bos: bool = False
    """Where the file does not say so."""

    def pre_tokenizer(self) -> JsonObject:
        """As tokenizer.json has it. GPT-2's pattern is built into the byte-level step, and is last."""
        builtin = self.patterns[-1] == PATTERNS["gpt2"]
        steps: list[JsonObject] = [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
            for pattern in (self.patterns[:-1] if builtin else self.patterns)
        ]
        byte_level = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": builtin,
        }
        return {"type": "Sequence", "pretokenizers": [*steps, byte_level]} if steps else byte_level


_GPT2 = Splitting((PATTERNS["gpt2"],))
_DIGITS = Splitting((r"\p{N}", PATTERNS["gpt2"]))
_LLAMA3 = Splitting((PATTERNS["three_digits"],), ignore_merges=True, add_bos=True)
_ONE_DIGIT = Splitting((PATTERNS["one_digit"],))
_CASES = Splitting((PATTERNS["case_aware"],))
SPLITTINGS: dict[str, Splitting] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "jais", "trillion", "exaone4", "granite-docling"), _GPT2),
    "olmo": Splitting(_GPT2.patterns, normalizer="NFC"),  # GPT-NeoX's tokenizer, of OLMo and Pythia
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _DIGITS
    ),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "lfm2"), _LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe"), Splitting((PATTERNS["three_digits"],))),
    "glm4": Splitting((PATTERNS["three_digits"],), ignore_merges=True),
    "qwen2": Splitting((PATTERNS["one_digit"],), normalizer="NFC"),
    **dict.fromkeys(("deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"), _ONE_DIGIT),
    "qwen35": Splitting((_QWEN35,), normalizer="NFC"),
    **dict.fromkeys(("gpt-4o", "llama4"), _CASES),
    "tekken": Splitting((_TEKKEN,), ignore_merges=True, add_bos=True),
    "deepseek-v3": Splitting((r"\p{N}{1,3}", _CJK, _DEEPSEEK3)),
    DEFAULT: Splitting((r"[\p{P}\$\+<=>\^~\|]+", PATTERNS["gpt2"], r"\p{N}+", r"[0-9][0-9][0-9]")),
}


def splitting(name: str, where: str) -> Splitting:
    """The splitting that `tokenizer.ggml.pre` names. Raises `UserError` for an unknown one."""
    if name not in SPLITTINGS:
        close = closest_match(name, SPLITTINGS)
        known = f"the nearest known name is {close!r}" if close else f"known: {', '.join(SPLITTINGS)}"
        raise UserError(
            f"{where}: `tokenizer.ggml.pre` is {name!r}, a way of splitting text that Parakit does not know",
            f"import the model's original folder, whose tokenizer.json has its patterns ({known})",
        )
    return SPLITTINGS[name]
