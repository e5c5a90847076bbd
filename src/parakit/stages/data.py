"""The stages that prepare data: corpus, tokenizer, token shards, conversations, preferences, prompts; the examples of a
task and their tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from parakit.checkpoints.loading import load_model
from parakit.checkpoints.model_folder import read_settings, save_model
from parakit.common.artifacts import LINEAGE, Lineage, open_artifact, read_lineage, writing_artifact
from parakit.common.files import JsonObject, read_json
from parakit.common.progress import Bar, log, progress
from parakit.common.settings import Family
from parakit.data.config import TextConfig
from parakit.data.conversations.sets import CONVERSATION_SPLITS, iter_conversations, prepare_conversations
from parakit.data.corpus import FACTS, iter_corpus, prepare_corpus
from parakit.data.examples import iter_examples, load_examples_report, prepare_examples
from parakit.data.examples.readers import example_paths
from parakit.data.mixture import Mixture
from parakit.data.preferences.sets import prepare_preferences
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.data.row_report import skip_summary
from parakit.data.split_writing import origins_file
from parakit.data.splits import SPLITS
from parakit.inference.folder_settings import is_chat_tuned
from parakit.primer.config import PrimerExamplesConfig
from parakit.primer.sources import primer_conversations, primer_documents, primer_examples, primer_preferences
from parakit.stages.config import SpanCorruption
from parakit.stages.data_config import ConversationsConfig, CorpusConfig, ExamplesConfig
from parakit.tokens.batches.span_corruption import span_counts
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.examples.encoding import encode_examples
from parakit.tokens.shards import write_shards
from parakit.tokens.tokenizer.comparison import unknown_share
from parakit.tokens.tokenizer.extension import ExtendedTokenizer, extend_tokenizer
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.tokens.tokenizer.training import train_tokenizer
from parakit.training.doctor.corpus import check_corpus
from parakit.training.doctor.registry import log_warnings
from parakit.training.task_names import TaskName

N_SHOWN_DOCUMENTS = 3
SHOWN_CHARS = 300
WARN_UNK_SHARE = 0.001
N_MEASURED = 200  # held-out texts that the tokens per word are measured on
N_SHOWN_TOKENS = 40  # of a larger vocabulary, in the report


def make_corpus(config: CorpusConfig, out: Path, overwrite: bool = False) -> Path:
    """Read or generate the text of `config` into a corpus folder."""
    source = primer_documents(config.primer) if config.primer else None
    with progress("text", unit="bytes") as bar:
        made = prepare_corpus(config, out, overwrite, bar, source)
    log_warnings("text", check_corpus(read_json(made / "report.json")))
    return made


def make_tokenizer(
    source: Path | Sequence[str], config: TokenizerConfig, out: Path, overwrite: bool = False
) -> Tokenizer:
    """Train a tokenizer on the training split of a corpus or of examples, or on files and folders of text.

    Its efficiency is measured on the validation split where there is one.
    """
    parents = [source] if isinstance(source, Path) else []
    lineage = Lineage("tokenizer", config.model_dump(mode="json"), list(parents))
    with progress("tokenizer", unit="bytes") as bar, writing_artifact(out, lineage, overwrite) as folder:
        tokenizer = train_tokenizer(_counted(_texts(source, "train"), bar), config)
        tokenizer.save(folder)
        lineage.result = _efficiency(tokenizer, _texts(source, "validation"))
        share = unknown_share(tokenizer, _texts(source, "train"))
        lineage.result |= {} if share is None else {"unk_share": share}
    if share is not None:
        log(f"tokenizer: {share:.2%} of the tokens of the training text are UNK")
        if share > WARN_UNK_SHARE and tokenizer.kind != "word":  # of words, the rare ones always are
            log(
                "warning: this text loses characters; a larger vocab_size, or unigram's byte_fallback, keeps them"
            )
    return tokenizer


def copy_tokenizer(model: Path, corpus: Path, out: Path, overwrite: bool = False) -> Tokenizer:
    """Copy the tokenizer of a trained model that is to continue; its efficiency is measured on the new text."""
    parents = [model] if (model / LINEAGE).is_file() else []
    tokenizer = Tokenizer.load(model)
    lineage = Lineage("tokenizer", {"of": "a model"}, list(parents))
    with writing_artifact(out, lineage, overwrite) as folder:
        tokenizer.save(folder)
        lineage.result = _efficiency(tokenizer, _texts(corpus, "validation"))
    return tokenizer


def extend_vocabulary(
    model_dir: Path, corpus: Path, new: int | Sequence[str], out: Path, overwrite: bool = False
) -> Path:
    """Write the model of `model_dir` with `new` more tokens learned on the corpus' training split, or with those of a list.

    The new rows are untrained: continued pre-training on the same text is to follow. The result has the tokens per word
    before and after, on the training split and on the held-out one. Raises `UserError` as `extend_tokenizer` does.
    """
    from parakit.model.larger_vocabulary import add_token_rows

    model, tokenizer = load_model(model_dir)
    assert tokenizer is not None, "the import checks that there is one"
    extended = extend_tokenizer(tokenizer, _texts(corpus, "train"), new)
    n_rows = add_token_rows(model, extended.pieces)
    figures = _vocabulary_figures(tokenizer, extended, list(islice(_texts(corpus, "validation"), N_MEASURED)))
    figures["new_rows"] = n_rows
    _tell(figures, new)
    added = new if isinstance(new, int) else list(new)
    config: JsonObject = {
        "stage": "extend_vocab",
        "extend_vocab": added,
        "chat": is_chat_tuned(model_dir),
    }
    lineage = Lineage("model", config, [model_dir, corpus], result=figures)
    return save_model(model, extended.tokenizer, out, lineage, overwrite)


def n_sentinels_for(max_seq_len: int, config: SpanCorruption) -> int:
    """The sentinels that a text of `max_seq_len` tokens needs."""
    return int(span_counts(np.array(max_seq_len), config.noise_rate, config.mean_span, max_seq_len)[1]) + 1


def make_shards(
    corpus: Path,
    tokenizer_dir: Path,
    out: Path,
    overwrite: bool = False,
    family: Family = "decoder",
    splits: Sequence[str] = SPLITS,
) -> Path:
    """Encode the splits of a corpus with the special tokens of `family`."""
    tokenizer = Tokenizer.load(tokenizer_dir)
    documents = {split: iter_corpus(corpus, split) for split in splits}
    report = read_json(corpus / "report.json")
    mixture, source_of = _sources_of(corpus, splits)
    with progress("tokens", unit="bytes") as bar:
        return write_shards(
            documents,
            tokenizer,
            out,
            [corpus, tokenizer_dir],
            family=family,
            overwrite=overwrite,
            progress=bar,
            corpus={name: report[name] for name in FACTS if name in report},
            mixture=mixture,
            source_of=source_of,
        )


def _sources_of(corpus: Path, splits: Sequence[str]) -> tuple[Mixture | None, dict[str, np.ndarray]]:
    """How the sources of a corpus are mixed, and of each split the source of every document; None and nothing where it
    has none.
    """
    settings = read_lineage(corpus)["config"]
    names = {name: settings[name] for name in ("sources", "curriculum") if settings.get(name)}
    mixture = TextConfig.parse(names, str(corpus)).mixture
    if mixture is None:
        return None, {}
    return mixture, {split: np.fromfile(corpus / origins_file(split), np.uint8) for split in splits}


def make_conversations(
    config: ConversationsConfig, out: Path, overwrite: bool = False, seed: int = 0
) -> Path:
    """Read or generate the conversations to fine-tune on; `seed` is of the draws where several files are mixed by shares."""
    source = primer_conversations(config.primer) if config.primer else config.paths
    with progress("conversations", unit="conversations") as bar:
        made = prepare_conversations(
            source,
            out,
            validation_fraction=config.validation_fraction,
            shares=config.shares,
            seed=seed,
            overwrite=overwrite,
            progress=bar,
        )
    return report_skipped("conversations", made)


def make_preferences(
    source: Sequence[str] | PrimerExamplesConfig,
    out: Path,
    validation_fraction: float = 0.05,
    overwrite: bool = False,
) -> Path:
    """Read or generate the preferences to align on."""
    with progress("preferences", unit="rankings") as bar:
        made = prepare_preferences(
            primer_preferences(source) if isinstance(source, PrimerExamplesConfig) else source,
            out,
            validation_fraction=validation_fraction,
            overwrite=overwrite,
            progress=bar,
        )
    return report_skipped("preferences", made)


def make_prompts(method: str, paths: Sequence[str], out: Path) -> Path:
    """Prepare files of prompts for a method of alignment: a folder of conversations for a constitution, else one file of
    prompts.
    """
    from parakit.alignment.rl.prompts import prompts_file

    if method == "constitution":
        return make_conversations(ConversationsConfig(paths=tuple(paths)), out, overwrite=True)
    return prompts_file(paths, out.with_name(f"{out.name}.jsonl"))


def make_conversation_shards(
    conversations: Path,
    tokenizer_dir: Path,
    out: Path,
    overwrite: bool = False,
    splits: Sequence[str] = CONVERSATION_SPLITS,
) -> Path:
    """Compile conversations to ids through the tokenizer's chat template."""
    tokenizer = Tokenizer.load(tokenizer_dir)
    rows = {split: iter_conversations(conversations, split) for split in splits}
    with progress("conversation tokens", unit="bytes") as bar:
        parents = [conversations, tokenizer_dir]
        return write_shards(rows, tokenizer, out, parents, overwrite=overwrite, progress=bar)


def encode_held_out(sources: Mapping[str, Path], tokenizer_dir: Path, work: Path) -> dict[str, Path]:
    """The validation splits of corpora and conversations (by name) as token shards of another tokenizer."""
    made = {}
    for name, source in sources.items():
        made[name] = work / name.replace(" ", "_")
        kind = open_artifact(source, verify=False).kind
        encode = make_conversation_shards if kind == "conversations" else make_shards
        encode(source, tokenizer_dir, made[name], splits=("validation",))
    return made


def report_skipped(title: str, made: Path) -> Path:
    """Log which rows of the files were skipped in the set `made`; returns `made`."""
    for line in skip_summary(read_json(made / "report.json")):
        log(f"{title}: {line}")
    return made


def _texts(source: Path | Sequence[str], split: str) -> Iterator[str]:
    """The texts of a split; files and folders have a single one."""
    if not isinstance(source, Path):
        return (document.text for document in read_documents(TextConfig(paths=tuple(source)), ReadReport()))
    if open_artifact(source, ("corpus", "examples"), verify=False).kind == "examples":
        return example_texts(source, split)
    return (document.text for document in iter_corpus(source, split))


def _counted(texts: Iterator[str], bar: Bar) -> Iterator[str]:
    for text in texts:
        bar.advance(len(text.encode()))
        yield text


def _efficiency(tokenizer: Tokenizer, held_out: Iterator[str]) -> JsonObject:
    """Bytes per token and tokens per word on some texts, and the tokens of a few of them."""
    texts = list(islice(held_out, N_MEASURED))
    n_tokens = sum(len(ids) for ids in tokenizer.encode_bulk(texts)) or 1
    shown = [text[:SHOWN_CHARS] for text in texts[:N_SHOWN_DOCUMENTS]]
    return {
        "kind": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
        "bytes_per_token": sum(len(text.encode()) for text in texts) / n_tokens,
        "tokens_per_word": n_tokens / (sum(len(text.split()) for text in texts) or 1),
        "samples": [[tokenizer.decode([i]) for i in tokenizer.encode(text)] for text in shown],
    }


def _vocabulary_figures(
    tokenizer: Tokenizer, extended: ExtendedTokenizer, held_out: Sequence[str]
) -> JsonObject:
    """How many tokens are new, and the tokens per word before and after."""
    n_words = sum(len(text.split()) for text in held_out)
    held_out_ratios = [
        sum(map(len, one.encode_bulk(list(held_out)))) / n_words if n_words else None
        for one in (tokenizer, extended.tokenizer)
    ]
    return {
        "new_tokens": len(extended.pieces),
        "vocab_size": extended.tokenizer.vocab_size,
        "tokens_per_word_before": extended.tokens_per_word_before,
        "tokens_per_word_after": extended.tokens_per_word_after,
        "held_out_tokens_per_word_before": held_out_ratios[0],
        "held_out_tokens_per_word_after": held_out_ratios[1],
        "tokens": [
            extended.tokenizer.decode([token_id]) for token_id in list(extended.pieces)[:N_SHOWN_TOKENS]
        ],
    }


def _tell(figures: JsonObject, new: int | Sequence[str]) -> None:
    n_made = figures["new_tokens"]
    fewer = isinstance(new, int) and n_made < new
    wanted = f" of {new:,} (no more pairs of tokens occur twice)" if fewer else ""
    spare = "" if figures["new_rows"] else "; the model's embedding had rows for them"
    log(f"vocabulary: {n_made:,}{wanted} new tokens, {figures['vocab_size']:,} in all{spare}")
    parts = [
        f"{figures[f'{prefix}tokens_per_word_before']:.2f} before and {figures[f'{prefix}tokens_per_word_after']:.2f}"
        f" after in the {split} text"
        for prefix, split in (("", "training"), ("held_out_", "held-out"))
        if figures[f"{prefix}tokens_per_word_before"] is not None
    ]
    log(f"vocabulary: tokens per word {', '.join(parts)}")


def make_examples(config: ExamplesConfig, task: TaskName, out: Path, overwrite: bool = False) -> Path:
    """Read or generate the examples to tune on, and those to measure on."""
    with progress("examples", unit="examples") as bar:
        return prepare_examples(
            primer_examples(config.primer, task) if config.primer else config.paths,
            task,
            out,
            validation_fraction=config.validation_fraction,
            test_fraction=0.0 if config.primer else config.test_fraction,
            validation=config.validation_paths,
            test=config.test_paths,
            labels=config.labels,
            columns=config.columns,
            reverse=config.reverse,
            overwrite=overwrite,
            progress=bar,
        )


def example_files(config: ExamplesConfig, task: TaskName) -> list[str]:
    """Every file that the examples are read from; a pair of parallel files is two."""
    named = [*config.paths, *config.validation_paths, *config.test_paths]
    return [str(file) for path in named for file in example_paths(path, task)]


def make_example_shards(
    examples: Path, tokenizer_dir: Path, out: Path, family: Family, overwrite: bool = False
) -> Path:
    """Encode every split of a task's examples as a model of `family` reads them. Pairs of texts are prepared as the
    embedder in `tokenizer_dir` does it, where there is one.
    """
    tokenizer = Tokenizer.load(tokenizer_dir)
    prepare = None
    if load_examples_report(examples)["task"] == "embed" and (tokenizer_dir / "config.json").is_file():
        pooling = read_settings(tokenizer_dir)[2].pooling
        prepare = pooling.prepared if pooling else None
    with progress("example tokens", unit="examples") as bar:
        return encode_examples(
            examples, tokenizer, out, family=family, prepare=prepare, overwrite=overwrite, progress=bar
        )


def example_texts(examples: Path, split: str) -> Iterator[str]:
    """Every text of a split's rows: what a tokenizer is trained on where there is no corpus."""
    for row in iter_examples(examples, split):
        for key in ("text", "text_pair", "positive", "source", "target"):
            if key in row:
                yield row[key]
        yield from row.get("negatives", ())
        if "words" in row:
            yield " ".join(row["words"])
