"""Flags of every command in combinations in which they would do nothing: each has to act or to be refused."""

from __future__ import annotations

from dataclasses import dataclass

from parakit.data.config import TextConfig

ALWAYS = (
    "always"  # acts in every combination, or changes speed, memory, the place or the form of the output only
)
CHECKED = "checked"  # refused elsewhere, by the settings' own rules, which their tests hold


@dataclass(frozen=True)
class Inert:
    """A command line in which `flag` would do nothing, and a part of the refusal."""

    command: str
    flag: str
    value: tuple[str, ...]
    others: tuple[str, ...]


def inert(command: str, others: str, **flags: str) -> list[Inert]:
    return [
        Inert(command, f"--{name.replace('_', '-')}", tuple(value.split()), tuple(others.split()))
        for name, value in flags.items()
    ]


# MODEL, CHAT..., PAIRS are replaced by folders and files of the tests.
INERT = [
    *inert(
        "plan", "RECIPE", method="full", family="encoder", architecture="bert", vocab_size="512", seq_len="64"
    ),
    *inert(
        "plan", "RECIPE", batch_tokens="512", micro_batch_size="2", checkpointing="", precision="bfloat16"
    ),
    *inert("plan", "RECIPE", optimizer="adamw", n_gpus="2", utilization="0.5", cards="TEXT", sharding="full"),
    *inert(
        "plan", "--size 5m", rank="4", bits="4", teacher="9m", new_tokens="9", group_size="4", n_sequences="2"
    ),
    *inert("plan", "--size 5m", prices="gpt-4o", tokenizer="MODEL", output_share="1"),
    *inert("plan", "--size 5m --gpu h100", recalibrate=""),
    *inert("plan", "--tokens RECIPE", gpu="h100", price_per_hour="1", price_per_kwh="1"),
    *inert(
        "evaluate",
        "MODEL --tokens SHARDS",
        n_suite_items="16",
        seed="3",
        prompting="plain",
        compare="EVALUATION",
        examples_split="test",
        n_beams="2",
        max_new_tokens="9",
        micro_batch_size="3",
        preferences_split="test",
        overwrite="",
        max_document_chars="99",
        text_start="bos",
    ),
    *inert("evaluate", "MODEL --text TEXT", split="train", data="TEXT", limit="3", n_shots="2", fetch=""),
    *inert("evaluate", "MODEL --text TEXT", system_prompt="Kind", contamination="TEXT", n_samples="3"),
    *inert("evaluate", "MODEL --suites --n-suite-items 8", seq_len="16", overlap="4", compare="EVALUATION"),
    *inert("evaluate", "MODEL --preferences PAIRS", seed="3", overwrite="", split="test", overlap="4"),
    *inert(
        "compare",
        "MODEL MODEL --tokens SHARDS",
        n_suite_items="16",
        seed="3",
        prompting="plain",
        max_new_tokens="9",
        micro_batch_size="3",
        max_document_chars="99",
        text_start="bos",
    ),
    *inert(
        "compare", "MODEL MODEL --text TEXT", split="train", data="TEXT", limit="3", n_shots="2", fetch=""
    ),
    *inert("compare", "MODEL MODEL --text TEXT", system_prompt="Kind", n_samples="3"),
    *inert("compare", "MODEL MODEL --suites --n-suite-items 8", seq_len="16", overlap="4"),
    *inert("generate", "MODEL bird --temperature 0", top_k="5", top_p="0.5", min_p="0.1", seed="1"),
    *inert("generate", "MODEL bird --temperature 0", typical_p="0.5", n="2"),
    *inert("generate", "MODEL bird", log_probabilities="2"),
    *inert("generate", "MODEL bird --prompting plain", system="Kind"),
    *inert("chat", "MODEL --temperature 0", top_k="5", top_p="0.5", min_p="0.1", seed="1", typical_p="0.5"),
    *inert("chat", "MODEL", n="2", log_probabilities="2", rewrite="model"),
    *inert("chat", "MODEL --documents TEXT", when_full="refuse"),
    *inert("text", "TEXT --output OUT", statistics="", seed="4"),
    *inert("text", "--primer --output OUT", shares="1 2"),
    *inert(
        "text",
        "TEXT --output OUT",
        questions_model="m",
        template="TEXT/0.txt",
        n_questions="2",
        max_passages="3",
    ),
    *inert("text", "CHATS --output OUT --conversations", dry_run=""),
    *inert("text", "TEXT --dry-run", output="OUT", overwrite=""),
    *inert("text", "--primer --output OUT --conversations", shares="1 2"),
    *inert("text", "--primer --output OUT --preferences", test_fraction="0.3"),
    *inert("text", "CHATS --output OUT --conversations", max_document_chars="99", exclude="*.md"),
    *inert("tokenizer encode", "MODEL bird", family="encoder", overwrite=""),
    *inert("tokenizer compare", "MODEL --text bird", file="TEXT/0.txt"),
    *inert("doctor", "MODEL", n_documents="2"),
    *inert("doctor", "MODEL --data SHARDS", method="dpo"),
    *inert("merge", "MODEL MODEL --output OUT", base="MODEL", max_rounding_loss="0.5", prompts="TEXT/0.txt"),
    *inert("merge", "MODEL MODEL --output OUT", t="0.3", density="0.3", scale="2", elect_signs="", seed="3"),
    *inert("runs plot", "MODEL", overwrite=""),
    *inert("export", "MODEL --output OUT", type="F16", base="MODEL", name="bird", text_file="TEXT/0.txt"),
    *inert("export", "MODEL --output OUT", accept_loss="", overwrite=""),
    *inert(
        "scale", "--runs BUILD --output OUT", sizes="40k 50k 60k", tokens="1k 2k 3k", time="9s", seeds="2"
    ),
    *inert("scale", "--runs BUILD --output OUT", parallel="2", dry_run=""),
    *inert("scale", "RECIPE --sizes 40k 50k 60k --tokens 1k 2k 3k --output OUT", time="9s", text="TEXT"),
    *inert("build", "--text TEXT", fetch="", extend_vocab="9", gate=""),
    *inert(
        "text", "TEXT --output OUT", fetch="", fetch_seconds="9", max_fetch_bytes="9", private_addresses=""
    ),
    *inert("build", "RECIPE", conversations="CHATS", examples="CHATS", exclude="*.md", text="TEXT"),
    *inert("build", "--text TEXT --size 40k --set", set="size=50k"),
    *inert("build", "--text TEXT --size 40k", vary="size=50k,60k", parallel="2"),
    *inert(
        "pretrain", "SHARDS --model MODEL --output OUT", size="40k", max_seq_len="16", architecture="bert"
    ),
    *inert("pretrain", "SHARDS --model MODEL --output OUT --max-steps 2", time="9s", yes=""),
    *inert("pretrain", "SHARDS --model MODEL --output OUT --find-rate", resume=""),
    *inert("finetune", "MODEL --conversations CHATS --output OUT", examples="CHATS", label_smoothing="0.1"),
    *inert(
        "finetune",
        "MODEL --conversations CHATS --output OUT",
        rank="4",
        trained_layers="0",
        n_prompt_tokens="3",
        bits="4",
        quant_group_size="32",
        quantize_embeddings="False",
    ),
    *inert("align", "MODEL --method dpo --preferences PAIRS --output OUT", prompts="CHATS", group_size="4"),
    *inert("distill", "MODEL --shards SHARDS --output OUT", conversations="CHATS", max_new_tokens="9"),
    *inert("quantize", "MODEL --output OUT --bits 8", n_suite_items="9", suite_seed="3", damping="0.1"),
    *inert("quantize", "MODEL --output OUT --size-budget 9MB", sensitivity=""),
    *inert("redteam", "MODEL --attacks ATTACKS --output OUT", suites="direct", n_attacks="9"),
    *inert("redteam", "MODEL --output OUT", judge_model="gpt"),
    *inert(
        "judge", "--answers PAIRS ATTACKS --judge MODEL --output OUT", max_new_tokens="9", judge_model="gpt"
    ),
    *inert("show", "SHARDS", seed="3", page="OUT", runs="TEXT"),
    *inert("show", "SHARDS --document 0123", search="bird"),
    *inert("show", "SHARDS", plot="OUT"),
    *inert("show", "EVALUATION --family EVALUATION", seed="3", page="OUT", document="0", search="bird"),
    *inert("import", "MODEL --output OUT", revision="main"),
    *inert("inspect attention", "MODEL --text bird", overwrite="", token="1", target="tree"),
    *inert("inspect attention", "MODEL --text bird --kind rollout", layer="0", head="0", output="OUT.html"),
    *inert("inspect heads", "MODEL", source="bird", method="mean", reference="TEXT/0.txt", patch_from="a b"),
    *inert("inspect heads", "MODEL", next_token="bird", against="tree"),
    *inert("inspect heads", "MODEL --text bird", pair="a b", n_tokens="4", n_sequences="2", seed="3"),
    *inert(
        "inspect neurons",
        "MODEL --text bird",
        source="bird",
        method="mean",
        reference="TEXT/0.txt",
        pair="a b",
    ),
    *inert("inspect neurons", "MODEL --pair bird tree", layer="0", target="bird"),
    *inert("inspect activations", "MODEL --text bird", overwrite="", target="tree"),
    *inert("inspect behaviours", "MODEL", overwrite=""),
    *inert(
        "inspect lens",
        "MODEL --text bird",
        overwrite="",
        max_steps="3",
        learning_rate="0.1",
        seq_len="16",
        positions_per_step="4",
        seed="3",
        target="tree",
    ),
    *inert(
        "inspect lens", "MODEL --train-on TEXT --output LENS", text="bird", tuned="LENS", n_candidates="3"
    ),
    *inert("inspect next", "MODEL --text bird", overwrite="", target="tree"),
    *inert("inspect experts", "MODEL --text bird", overwrite=""),
    *inert("inspect diff", "MODEL MODEL --json", overwrite="", n_matrices="3"),
    *inert("inspect embeddings", "MODEL --words bird", overwrite="", map="pca"),
    *inert("inspect embeddings", "MODEL --texts bird tree", table="output", n_neighbours="3"),
]

PENALTIES = (
    *("logit_bias", "frequency_penalty", "presence_penalty", "no_repeat_ngram_size", "min_new_tokens"),
)

CONSTRAINTS = ("json_schema", "regex", "grammar")  # act on every choice
DRAFTS = ("draft", "prompt_lookup")  # change the speed alone

# Every other flag, by command: acts in every combination, or changes the place or the form of the output, or speed.
OTHERS = {
    "evaluate": {"tasks", "tokens", "text", "examples", "suites", "output", "preferences", "device", "json"},
    "generate": {
        *PENALTIES,
        *CONSTRAINTS,
        *DRAFTS,
        # choose the way of decoding, and are refused where another is chosen
        *("n_beams", "length_penalty", "stop_when", "n_beam_groups", "diversity_penalty", "penalty_alpha"),
        "repetition_penalty",
        "temperature",
        "max_new_tokens",
        "when_full",
        "cache_dtype",
        "stop",
        *("prompting", "hide_thinking"),
        *("batch", "output"),  # each is refused without the other
        "device",
        "dtype",
        "json",
    },
    "chat": {
        *PENALTIES,
        *CONSTRAINTS,
        *DRAFTS,
        *("repetition_penalty", "temperature", "max_new_tokens", "stop", "adapters", "system", "when_full"),
        *("cache_dtype", "stats", "hide_thinking", "documents", "device", "dtype", "json"),
    },
    "text": {
        *("output", "primer", "conversations", "preferences", "task", "questions_from", "overwrite", "json"),
        *(set(TextConfig.model_fields) - {"paths", "cleaning", "sources", "curriculum"}),
        "clean",
    },
    "compare": {
        *(
            "tasks",
            "level",
            "detect",
            "power",
            "common_items",
            "allow",
            "tokens",
            "text",
            "suites",
            "output",
            "page",
            "fail_on",
        ),
        *("device", "json"),
    },
    "runs list": {"json"},
    "runs compare": {"folder", "json"},
    "runs plot": {"folder", "metrics", "axis", "smoothing", "output"},
    "tokenizer encode": {"output", "json"},
    "tokenizer compare": {"text", "json"},
    "doctor": {"data", "split", "seq_len", "show", "json"},
    "merge": {
        *("output", "dtype", "text", "max_logit_difference", "weights", "overwrite", "json"),
        *("method", "checkpoints", "tokenizer"),
    },
    "build": {
        *(
            "seeds",
            "model",
            "task",
            "family",
            "evaluate_text",
            "size",
            "time",
            "name",
            "seed",
            "builds",
            "dry_run",
            "json",
        ),
    },
    "scale": {"output", "predict", "runs", "set", "json"},
    "redteam": {
        "output",
        "attacks",
        "judge",
        "seed",
        "max_new_tokens",
        "against",
        "device",
        "overwrite",
        "json",
    },
    "judge": {
        *("judge", "output", "models", "prompts", "answers", "votes", "kind", "criterion", "limit", "seed"),
        *("device", "overwrite", "json"),
    },
    "import": {"output", "dtype", "accept_config", "overwrite", "json"},
    "export": {"output", "format", "dtype", "max_shard_size", "evaluation", "json"},
    "inspect attention": {"text", "kind", "device", "dtype", "json"},
    "inspect heads": {"text", "device", "dtype", "json"},
    "inspect neurons": {"text", "n", "device", "dtype", "json"},
    "inspect activations": {"text", "names", "output", "device", "dtype", "json"},
    "inspect lens": {"text", "train_on", "output", "tuned", "n_candidates", "device", "dtype", "json"},
    "inspect next": {
        "text",
        "n_candidates",
        "position",
        "temperature",
        "top_p",
        "output",
        "device",
        "dtype",
        "json",
    },
    "inspect experts": {"text", "target", "output", "device", "dtype", "json"},
    "inspect diff": {"output", "json"},
    "inspect embeddings": {
        *(
            "words",
            "texts",
            "analogy",
            "analogies",
            "n_neighbours",
            "table",
            "output",
            "device",
            "dtype",
            "json",
        ),
    },
    "inspect behaviours": {"pairs", "n_pairs", "n_heads", "seed", "output", "device", "dtype", "json"},
    "studio": {"port", "open"},
    "keys add": {"tokens_per_day", "requests_per_minute", "usd_per_month", "studio", "accounts", "json"},
    "keys list": {"accounts", "json"},
    "keys revoke": {"accounts"},
    "usage": {"by", "since", "until", "key", "model", "accounts", "csv", "json"},
    "show": {"verify", "document", "family", "json"},
    "plan": {"size", "time", "budget", "memory", "tokens", "json"},
    "bench": {"prompt_tokens", "new_tokens", "n_sequences", "repeats", "device", "dtype", "json"},
    "serve": {
        *(
            "host",
            "port",
            "adapters",
            "documents",
            "prompts",
            "device",
            "dtype",
            "model_memory",
            "cache_memory",
            "cache_dtype",
            "preload",
        ),
        *("max_seq_len", "max_new_tokens", "when_full", "max_running", "max_step_tokens", "max_waiting"),
        *("shutdown_seconds", "studio", "log_prompts", "data_dir"),
        *("accounts", "prices", "on_ledger_failure", "require_key", "allowed_hosts", "allowed_origins"),
        *("tls_cert", "tls_key", "max_body_bytes", "header_seconds", "body_seconds", "slow_seconds"),
        "max_connections",
    },
    "predict": {
        *PENALTIES,
        *("repetition_penalty", "n_beam_groups", "diversity_penalty"),
        *("text", "input", "n_beams", "length_penalty", "stop_when", "max_new_tokens", "n_candidates"),
        *("source_language", "target_language", "embed", "prompt_name", "device", "dtype", "json"),
    },
}
