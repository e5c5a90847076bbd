"""Training a tokenizer on one's own text: byte-level BPE, WordPiece, Unigram, words, characters.

Ids begin with the special tokens. Byte BPE splits as Qwen 3 does (each digit alone) or as Llama 3 does (up to
three digits), patterns that the common engines know; no text is normalised, so decoding gives back every
byte. The tokenizer.json adds BOS when transformers is asked for special tokens; our own `encode` never does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from parakit.common.errors import UserError
from parakit.tokens.chat.template import CHAT_TEMPLATE
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.tokenizer.exact_training import count_words, learn_merges, learn_unigram
from parakit.tokens.tokenizer.fast_encoding import PATTERNS, byte_alphabet, fix_surrogates
from parakit.tokens.tokenizer.special_tokens import SpecialTokens, default_special_tokens
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_TEXTS_PER_CALL, _MAX_ALPHABET = 256, 1000


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Train on `texts`, read once. The same texts give the same bytes, whatever the number of threads.

    Raises `UserError` when there is no text or `vocab_size` cannot hold the special tokens and the alphabet.
    """
    special = default_special_tokens(config.kind, config.n_sentinels)
    n_fixed = len(special.all_strings()) + (256 if config.kind == "byte_bpe" else 1)
    if config.vocab_size < n_fixed:
        raise UserError(
            f"vocab_size {config.vocab_size} is too small for a {config.kind} tokenizer",
            f"special tokens and alphabet alone need {n_fixed}",
        )
    reader = _Reader(texts, config.max_train_bytes)
    whole = _TRAINERS[config.kind](reader, config, special)
    if not reader.n_bytes:
        raise UserError(
            "there is no text to train a tokenizer on", "check that the input folder holds readable text"
        )
    whole.add_special_tokens(
        [AddedToken(form, special=True, normalized=False) for form in special.all_strings()]
    )
    bos = special.strings["bos"]
    whole.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, whole.token_to_id(bos))]
    )
    return Tokenizer(
        whole.to_str(pretty=True), kind=config.kind, special=special, chat_template=CHAT_TEMPLATE
    )


class _Reader:
    """Hands out the training texts, many at a time, up to a limit; counts their bytes."""

    def __init__(self, texts: Iterable[str], max_bytes: int | None) -> None:
        self._texts, self._max_bytes = texts, max_bytes
        self.n_bytes = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            text = fix_surrogates(text)
            self.n_bytes += len(text) if text.isascii() else len(text.encode())
            yield text
            if self._max_bytes is not None and self.n_bytes >= self._max_bytes:
                return

    def lists(self) -> Iterator[list[str]]:
        """Lists of texts: fewer crossings into the trainer."""
        chunk: list[str] = []
        for text in self:
            chunk.append(text)
            if len(chunk) == _TEXTS_PER_CALL:
                yield chunk
                chunk = []
        if chunk:
            yield chunk


def _pattern(config: TokenizerConfig) -> str:
    return PATTERNS["one_digit" if config.split_digits else "three_digits"]


def _byte_bpe(model: models.BPE, config: TokenizerConfig) -> HuggingFaceTokenizer:
    whole = HuggingFaceTokenizer(model)
    whole.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_pattern(config)), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    whole.decoder = decoders.ByteLevel()
    return _folded(whole, config)


def _folded(whole: HuggingFaceTokenizer, config: TokenizerConfig) -> HuggingFaceTokenizer:
    if config.lowercase:
        whole.normalizer = normalizers.Lowercase()
    return whole


def _with_digits(
    splitter: pre_tokenizers.PreTokenizer, config: TokenizerConfig
) -> pre_tokenizers.PreTokenizer:
    return (
        pre_tokenizers.Sequence([splitter, pre_tokenizers.Digits(individual_digits=True)])
        if config.split_digits
        else splitter
    )


def _train_byte_bpe(reader: _Reader, config: TokenizerConfig, special: SpecialTokens) -> HuggingFaceTokenizer:
    if config.ties == "greatest_pair":
        return _train_exactly(reader, config, special)
    whole = _byte_bpe(models.BPE(), config)
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=special.all_strings(),
        initial_alphabet=list(byte_alphabet()),
        show_progress=False,
    )
    whole.train_from_iterator(reader.lists(), trainer)
    return whole


def _train_wordpiece(
    reader: _Reader, config: TokenizerConfig, special: SpecialTokens
) -> HuggingFaceTokenizer:
    unk, prefix = special.strings["unk"], "##"
    whole = _folded(HuggingFaceTokenizer(models.WordPiece(unk_token=unk)), config)
    whole.pre_tokenizer = _with_digits(pre_tokenizers.BertPreTokenizer(), config)
    whole.decoder = decoders.WordPiece(prefix=prefix, cleanup=True)
    words = count_words(reader, whole.pre_tokenizer, whole.normalizer)
    chars: Counter[str] = Counter()
    for word, count in words.items():
        for i, char in enumerate(word):
            chars[prefix + char if i else char] += count
    forms = special.all_strings()
    limit = min((config.vocab_size - len(forms)) // 2, _MAX_ALPHABET)
    alphabet = sorted(sorted(chars, key=lambda char: (-chars[char], char))[:limit])
    spelled = {word: [prefix + c if i else c for i, c in enumerate(word)] for word in words}
    known = set(alphabet)
    parts = {
        tuple(part.encode() for part in spelled[word]): count
        for word, count in words.items()
        if known.issuperset(spelled[word])
    }
    merges = learn_merges(parts, config.vocab_size - len(forms) - len(alphabet), prefix.encode())
    made = [(left + right.removeprefix(prefix.encode())).decode() for left, right in merges]
    tokens = dict.fromkeys([*forms, *alphabet, *made])
    whole.model = models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token=unk)
    return whole


def _train_unigram(reader: _Reader, config: TokenizerConfig, special: SpecialTokens) -> HuggingFaceTokenizer:
    whole = _folded(HuggingFaceTokenizer(models.Unigram()), config)
    whole.pre_tokenizer = _with_digits(pre_tokenizers.Metaspace(), config)
    whole.decoder = decoders.Metaspace()
    words = count_words(reader, whole.pre_tokenizer, whole.normalizer)
    forms = special.all_strings()
    pieces = learn_unigram(words, config.vocab_size - len(forms)) if words else []
    vocabulary = [*((form, 0.0) for form in forms), *(p for p in pieces if p[0] not in forms)]
    whole.model = models.Unigram(vocabulary, forms.index(special.strings["unk"]))
    return whole


def _train_words(reader: _Reader, config: TokenizerConfig, special: SpecialTokens) -> HuggingFaceTokenizer:
    whole = _folded(HuggingFaceTokenizer(models.WordLevel(unk_token=special.strings["unk"])), config)
    whole.pre_tokenizer = _with_digits(pre_tokenizers.Whitespace(), config)
    whole.decoder = decoders.WordPiece(prefix="\N{NULL}", cleanup=True)  # joins by spaces, none before , or .
    trainer = trainers.WordLevelTrainer(
        vocab_size=config.vocab_size, special_tokens=special.all_strings(), show_progress=False
    )
    whole.train_from_iterator(reader.lists(), trainer)
    return whole


def _train_characters(
    reader: _Reader, config: TokenizerConfig, special: SpecialTokens
) -> HuggingFaceTokenizer:
    counts: Counter[str] = Counter()
    for text in reader:
        counts.update(text.lower() if config.lowercase else text)
    forms = special.all_strings()
    frequent = sorted(counts, key=lambda char: (-counts[char], char))[: config.vocab_size - len(forms)]
    vocabulary = {token: token_id for token_id, token in enumerate([*forms, *sorted(frequent)])}
    whole = _folded(HuggingFaceTokenizer(models.WordLevel(vocabulary, special.strings["unk"])), config)
    whole.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    whole.decoder = decoders.Fuse()
    return whole


def _train_exactly(reader: _Reader, config: TokenizerConfig, special: SpecialTokens) -> HuggingFaceTokenizer:
    """Byte BPE by our own trainer, ties going to the greater bytes."""
    alphabet = byte_alphabet()
    empty = _byte_bpe(models.BPE(), config)
    words = count_words(reader, empty.pre_tokenizer, empty.normalizer)
    of_char = {char: bytes([byte]) for byte, char in enumerate(alphabet)}
    parts = {tuple(of_char[char] for char in word): count for word, count in words.items()}
    forms = special.all_strings()
    merges = [
        ("".join(alphabet[b] for b in left), "".join(alphabet[b] for b in right))
        for left, right in learn_merges(parts, config.vocab_size - len(forms) - 256)
    ]
    tokens = [*forms, *sorted(alphabet), *(left + right for left, right in merges)]
    return _byte_bpe(models.BPE({token: i for i, token in enumerate(tokens)}, merges), config)


_TRAINERS = {
    "byte_bpe": _train_byte_bpe,
    "wordpiece": _train_wordpiece,
    "unigram": _train_unigram,
    "word": _train_words,
    "char": _train_characters,
}
