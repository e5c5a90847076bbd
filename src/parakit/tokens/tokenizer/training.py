"""Training a tokenizer on one's own text: byte-level BPE, WordPiece, Unigram, words, characters.

Ids begin with the special tokens. Byte BPE splits as Qwen 3 (each digit alone) or Llama 3 (up to three digits), patterns
that the common engines know; text is not normalized, so decoding restores every byte. Training cuts words at `MAX_WORD`
characters, encoding never does. The tokenizer.json adds BOS when
transformers encodes with special tokens; Parakit's `encode` never does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from parakit.common.choices import part_of
from parakit.common.errors import UserError
from parakit.tokens.chat.rendering import CHAT_TEMPLATE
from parakit.tokens.config import DigitSplitting, MergeTies, TokenizerConfig, UnigramPieces
from parakit.tokens.importers.sentencepiece_tokenizer import NEVER
from parakit.tokens.tokenizer.exact_training import MAX_WORD, choose_alphabet, count_words, learn_merges
from parakit.tokens.tokenizer.fast_encoding import PATTERNS, byte_alphabet, fix_surrogates
from parakit.tokens.tokenizer.special_tokens import SpecialTokens, default_special_tokens
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.tokens.tokenizer.unigram_training import learn_unigram

_TEXTS_PER_CALL, _LONGEST_WORDPIECE = 256, 1000
# A word of more than `MAX_WORD` characters has half of them in one run, of space or of none (a symbol's newlines follow it).
_RUN = MAX_WORD // 2
_MAYBE_LONG_WORD = re.compile(
    rf"(?:\S{{1,{_RUN - 1}}}+(?!\S)|\s{{1,{_RUN - 1}}}+(?!\s))*+(?:\S{{{_RUN}}}|\s{{{_RUN}}})"
)


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Train on `texts`, read once. The same texts give the same bytes, whatever the number of threads.

    Raises `UserError` when there is no text or `vocab_size` cannot hold the special tokens and the alphabet.
    """
    special = default_special_tokens(config.kind, config.n_sentinels)
    unigram = part_of(config, UnigramPieces)
    has_bytes = config.kind == "byte_bpe" or (unigram is not None and unigram.byte_fallback)
    n_fixed = len(special.all_strings()) + (256 if has_bytes else 1)
    if config.vocab_size < n_fixed:
        raise UserError(
            f"vocab_size {config.vocab_size} is too small for a {config.kind} tokenizer",
            f"raise vocab_size to {n_fixed}, which special tokens and alphabet alone need",
        )
    reader = _TextReader(texts, config.max_train_bytes)
    backend = _TRAINERS[config.kind](reader, config, special)
    if not reader.n_bytes:
        raise UserError(
            "there is no text to train a tokenizer on", "check that the input folder holds readable text"
        )
    backend.add_special_tokens(
        [AddedToken(string, special=True, normalized=False) for string in special.all_strings()]
    )
    bos = special.strings["bos"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, backend.token_to_id(bos))]
    )
    return Tokenizer(
        backend.to_str(pretty=True), kind=config.kind, special=special, chat_template=CHAT_TEMPLATE
    )


class _TextReader:
    """Yields the training texts up to a limit and counts their bytes."""

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


def _in_lists(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of texts: fewer calls into the trainer."""
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == _TEXTS_PER_CALL:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _splits_digits(config: TokenizerConfig) -> bool:
    splitting = part_of(config, DigitSplitting)
    return splitting is not None and splitting.split_digits


def _byte_bpe(model: models.BPE, config: TokenizerConfig) -> HuggingFaceTokenizer:
    backend = HuggingFaceTokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [_word_splitter(config), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return _with_case_folding(backend, config)


def _word_splitter(config: TokenizerConfig) -> pre_tokenizers.PreTokenizer:
    """Words by the pattern of the settings."""
    pattern = PATTERNS["one_digit" if _splits_digits(config) else "three_digits"]
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def _cut_long_words(texts: Iterable[str], splitter: pre_tokenizers.PreTokenizer) -> Iterator[str]:
    """The texts; those with words of more than `MAX_WORD` characters in pieces that end where such a word is cut."""
    for text in texts:
        start = 0
        if _MAYBE_LONG_WORD.match(text):
            for _, (first, end) in splitter.pre_tokenize_str(text):
                for cut in range(first + MAX_WORD, end, MAX_WORD):
                    yield text[start:cut]
                    start = cut
        yield text[start:]


def _with_case_folding(backend: HuggingFaceTokenizer, config: TokenizerConfig) -> HuggingFaceTokenizer:
    if config.lowercase:
        backend.normalizer = normalizers.Lowercase()
    return backend


def _with_digits(
    splitter: pre_tokenizers.PreTokenizer, config: TokenizerConfig
) -> pre_tokenizers.PreTokenizer:
    return (
        pre_tokenizers.Sequence([splitter, pre_tokenizers.Digits(individual_digits=True)])
        if _splits_digits(config)
        else splitter
    )


def _train_byte_bpe(
    reader: _TextReader, config: TokenizerConfig, special: SpecialTokens
) -> HuggingFaceTokenizer:
    merging = part_of(config, MergeTies)
    if merging and merging.ties == "greatest_pair":
        return _train_exactly(reader, config, special)
    backend = _byte_bpe(models.BPE(), config)
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=special.all_strings(),
        initial_alphabet=list(byte_alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_in_lists(_cut_long_words(reader, _word_splitter(config))), trainer)
    return backend


def _train_wordpiece(
    reader: _TextReader, config: TokenizerConfig, special: SpecialTokens
) -> HuggingFaceTokenizer:
    unk, prefix = special.strings["unk"], "##"
    backend = _with_case_folding(HuggingFaceTokenizer(models.WordPiece(unk_token=unk)), config)
    # Chinese characters stand alone, as in BERT: one unknown character would make its whole clause UNK.
    alone = pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated")
    splitter = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), alone])
    backend.pre_tokenizer = _with_digits(splitter, config)
    backend.decoder = decoders.WordPiece(prefix=prefix, cleanup=True)
    words = count_words(reader, backend.pre_tokenizer, backend.normalizer)
    chars: Counter[str] = Counter()
    for word, count in words.items():
        for i, char in enumerate(word):
            chars[prefix + char if i else char] += count
    strings = special.all_strings()
    alphabet = sorted(choose_alphabet(chars, config.vocab_size - len(strings)))
    spelled = {word: [prefix + c if i else c for i, c in enumerate(word)] for word in words}
    known = set(alphabet)
    parts = {
        tuple(part.encode() for part in spelled[word]): count
        for word, count in words.items()
        if known.issuperset(spelled[word])
    }
    merges = learn_merges(parts, config.vocab_size - len(strings) - len(alphabet), prefix.encode())
    made = [(left + right.removeprefix(prefix.encode())).decode() for left, right in merges]
    tokens = dict.fromkeys([*strings, *alphabet, *made])
    backend.model = models.WordPiece(
        {token: i for i, token in enumerate(tokens)},
        unk_token=unk,
        max_input_chars_per_word=_LONGEST_WORDPIECE,
    )
    return backend


def _train_unigram(
    reader: _TextReader, config: TokenizerConfig, special: SpecialTokens
) -> HuggingFaceTokenizer:
    backend = _with_case_folding(HuggingFaceTokenizer(models.Unigram()), config)
    backend.pre_tokenizer = _with_digits(pre_tokenizers.Metaspace(), config)
    backend.decoder = decoders.Metaspace()
    words = count_words(reader, backend.pre_tokenizer, backend.normalizer)
    strings, fallback = special.all_strings(), part_of(config, UnigramPieces)
    spelled = [f"<0x{byte:02X}>" for byte in range(256)] if fallback and fallback.byte_fallback else []
    n_pieces = config.vocab_size - len(strings) - len(spelled)
    pieces = learn_unigram(words, n_pieces) if words else []
    vocabulary = [(string, 0.0) for string in strings] + [(byte, NEVER) for byte in spelled]
    vocabulary += [piece for piece in pieces if piece[0] not in strings]
    backend.model = models.Unigram(vocabulary, strings.index(special.strings["unk"]), bool(spelled))
    if spelled:
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return backend


def _train_words(
    reader: _TextReader, config: TokenizerConfig, special: SpecialTokens
) -> HuggingFaceTokenizer:
    backend = _with_case_folding(
        HuggingFaceTokenizer(models.WordLevel(unk_token=special.strings["unk"])), config
    )
    backend.pre_tokenizer = _with_digits(pre_tokenizers.Whitespace(), config)
    backend.decoder = decoders.WordPiece(
        prefix="\N{NULL}", cleanup=True
    )  # joins by spaces, none before , or .
    trainer = trainers.WordLevelTrainer(
        vocab_size=config.vocab_size, special_tokens=special.all_strings(), show_progress=False
    )
    backend.train_from_iterator(_in_lists(reader), trainer)
    return backend


def _train_characters(
    reader: _TextReader, config: TokenizerConfig, special: SpecialTokens
) -> HuggingFaceTokenizer:
    counts: Counter[str] = Counter()
    for text in reader:
        counts.update(text.lower() if config.lowercase else text)
    strings = special.all_strings()
    frequent = sorted(counts, key=lambda char: (-counts[char], char))[: config.vocab_size - len(strings)]
    vocabulary = {token: token_id for token_id, token in enumerate([*strings, *sorted(frequent)])}
    backend = _with_case_folding(
        HuggingFaceTokenizer(models.WordLevel(vocabulary, special.strings["unk"])), config
    )
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return backend


def _train_exactly(
    reader: _TextReader, config: TokenizerConfig, special: SpecialTokens
) -> HuggingFaceTokenizer:
    """Byte BPE by `learn_merges`, ties broken by the greater bytes."""
    alphabet = byte_alphabet()
    untrained = _byte_bpe(models.BPE(), config)
    words = count_words(reader, untrained.pre_tokenizer, untrained.normalizer)
    of_char = {char: bytes([byte]) for byte, char in enumerate(alphabet)}
    parts = {tuple(of_char[char] for char in word): count for word, count in words.items()}
    strings = special.all_strings()
    merges = [
        ("".join(alphabet[b] for b in left), "".join(alphabet[b] for b in right))
        for left, right in learn_merges(parts, config.vocab_size - len(strings) - 256)
    ]
    tokens = [*strings, *sorted(alphabet), *(left + right for left, right in merges)]
    return _byte_bpe(models.BPE({token: i for i, token in enumerate(tokens)}, merges), config)


_TRAINERS = {
    "byte_bpe": _train_byte_bpe,
    "wordpiece": _train_wordpiece,
    "unigram": _train_unigram,
    "word": _train_words,
    "char": _train_characters,
}
