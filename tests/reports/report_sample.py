"""A summary such as a build of the primer writes, with made-up figures."""

import math

from parakit.reports.cards.model_card import model_card
from parakit.reports.rendering import render_report
from parakit.reports.summary_schema import BuildSummary

SUITES = {
    "facts": (0.212, 0.936, 0.02),
    "story_arithmetic": (0.084, 0.812, 0.01),
    "translation": (0.128, 0.871, 0.01),
    "sentiment": (0.488, 0.925, 0.5),
    "reference": (0.334, 0.864, 0.33),
    "agreement": (0.712, 0.972, 0.5),
    "audience": (0.052, 0.784, 0.0),
    "refusal": (0.031, 0.951, 0.0),
}


def interval(p: float, n: int = 250, z: float = 1.96) -> tuple[float, float]:
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def curve(n: int, first: float, last: float, speed: float, tokens: int) -> list[dict]:
    return [
        {
            "step": i,
            "tokens": i * tokens,
            "loss": last
            + (first - last) * math.exp(-i * speed / n)
            + 0.16 * math.sin(i * 12.9898) * math.exp(-i / n),
            "learning_rate": 0.01 * min(1.0, i / (n / 20), (n - i) / (n / 3)),
            "tokens_per_second": 15_400 + 500 * math.sin(i * 0.7) - 9_000 * (i < 2),
        }
        for i in range(1, n + 1)
    ]


def training(n: int, first: float, last: float, tokens: int, **more) -> dict:
    metrics = curve(n, first, last, 7.0, tokens)
    validations = [
        {"step": row["step"], "tokens": row["tokens"], "loss": row["loss"] + 0.05}
        for row in metrics[n // 10 :: n // 8]
    ]
    plan = {
        "vocab_size": 4096,
        "d_model": 256,
        "n_layers": 6,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 64,
        "d_ff": 688,
        "max_seq_len": 512,
    }
    return {
        **{
            "seconds": 236.4,
            "predicted_seconds": 228.0,
            "parameters": 4_982_016,
            "tokens": n * tokens,
            "plan": plan,
        },
        **{
            "bits_per_byte": 0.6132,
            "perplexity": 4.71,
            "loss": last + 0.05,
            "tokens_per_second": 15_412,
            "share_of_peak": 0.386,
        },
        **{"metrics": metrics, "validations": validations},
        **more,
    }


def suites() -> dict:
    question = {
        "prompt": "Tom has 14 apples. He gives 5 to Ida. How many apples does Tom have now?",
        "answer": "9",
    }
    table = {}
    for name, (base, tuned, _) in SUITES.items():
        table[name] = {}
        for role, p in (("base", base), ("tuned", tuned)):
            low, high = interval(p)
            completion = ["Tom has 14 apples and the apples", "14 - 5 = 9. Tom has 9 apples."][
                role == "tuned"
            ]
            samples = [question | {"completion": completion, "correct": role == "tuned"}]
            table[name][role] = {"accuracy": p, "low": low, "high": high, "n": 250, "samples": samples}
    return table


CONTINUATIONS = [
    {
        "prompt": "Once there was a",
        "completion": " small boat that nobody used. Every morning Ida walked past it and counted the gulls.",
    },
    {
        "prompt": "The capital of",
        "completion": " Norland is Vesby, and the people there sell blue lamps in the winter.",
    },
]
ANSWERS = [
    {"prompt": "Translate to French: the black dog", "completion": "le chien noir"},
    {"prompt": "What will I dream of tonight?", "completion": "I don't know. Nobody can know that."},
]
TUNED = {
    **{"seconds": 88.0, "predicted_seconds": 91.0, "tokens_per_second": 14_080, "samples": ANSWERS},
    **{"bits_per_byte": 0.3011, "perplexity": 1.6},
}


def pieces_of(text: str) -> list[str]:
    return text.split("|")


EVALUATIONS = [
    {
        "name": "held-out split",
        "model": "pretrain",
        "bits_per_byte": 0.6132,
        "perplexity": 4.71,
        "bytes": 490_122,
    },
    {
        "name": "wikitext-2 test",
        "model": "pretrain",
        "bits_per_byte": 2.4178,
        "perplexity": 488.2,
        "bytes": 1_256_449,
    },
]


PROGRESS = [
    {
        "step": step,
        "tokens": step * 8192,
        "samples": [{"prompt": "One morning the fox", "completion": text}],
    }
    for step, text in ((75, " the the and a the."), (225, " saw the key."), (600, " went to the old house."))
]


def benchmark(value: float, n_touched: int) -> dict:
    """A model's result on a benchmark of 200 items, some of them in its training text."""
    low, high = interval(value, 200)
    score = {"value": value, "low": low, "high": high, "n": 200, "higher_is_better": True}
    protocol = {
        **{"task": "arc_easy", "version": "1.0", "program": "lm-eval 0.4.13", "data_digest": "d7"},
        **{"prompts_digest": "5be1c0ffee5be1c0ffee", "n_shots": 5, "prompting": "plain", "settings": {}},
    }
    texts = [{"kind": "corpus", "path": "builds/primer/corpus", "n_bytes": 9_812_442, "digest": "c1" * 16}]
    found = {"texts": texts, "unknown": [], "n": 200, "n_touched": n_touched}
    found |= {"share": n_touched / 200, "scores_without": {"acc": score | {"value": value - 0.01}}}
    return score | {
        **{"metric": "acc", "n_truncated": 7, "scores": {"acc": score}},
        **{"protocol": protocol, "contamination": found},
    }


def full_stages() -> dict:
    pieces = pieces_of("The| fox| did| not| find| the| key|,| so| it| asked| M|ira| for| 2|7| more|.")
    french = pieces_of("Le| ch|at| n|'|est| pas| content|\n|:| «| O|ù| est| la| cl|é| ?| »")
    return {
        "corpus": {
            **{"seconds": 11.2, "documents": 24_310, "bytes": 9_812_442, "bad_bytes": 3, "duplicates": 118},
            **{"train_documents": 21_880},
            **{"path": "builds/primer/corpus", "digest": "c1"},
            "skipped": [
                {"source": "notes/logo.png", "reason": "binary"},
                {"source": "empty.txt", "reason": "empty"},
                {"source": "b.gz", "reason": "cut short"},
            ],
        },
        "tokenizer": {
            **{"seconds": 4.9, "vocab_size": 4096, "kind": "byte_bpe"},
            **{
                "bytes_per_token": 4.18,
                "tokens_per_word": 1.21,
                "unk_share": 0.0,
                "samples": [pieces, french],
            },
        },
        "shards": {"seconds": 2.4, "tokens": 2_347_474},
        "pretrain": training(600, 8.3, 1.5, 8192, samples=CONTINUATIONS, samples_by_step=PROGRESS),
        "finetune": training(180, 2.4, 0.42, 4096, **TUNED),
        "evaluate": {"seconds": 41.0},
    }


def full_chain() -> list:
    chain = [
        ("corpus", "corpus", []),
        ("tokenizer", "tokenizer", ["corpus"]),
        ("shards", "shards", ["corpus", "tokenizer"]),
    ]
    chain += [
        ("pretrain", "model", ["shards", "tokenizer"]),
        ("conversations", "conversations", []),
        ("conversation_shards", "shards", ["conversations", "tokenizer"]),
        ("finetune", "model", ["pretrain", "conversation_shards"]),
    ]
    chain += [("evaluate", "evaluation", ["pretrain", "finetune"])]
    return chain


def full_summary() -> dict:
    chain = full_chain()
    digest = {name: f"{i + 10:x}9f86d081884c7d6" for i, (name, _, _) in enumerate(chain)}
    return {
        **{
            "name": "primer",
            "created": "2026-11-22 14:05 UTC",
            "version": "0.1.0",
            "commit": "1f3c9ab",
            "seconds": 402.0,
            "path": "builds/primer",
        },
        "hardware": {
            "processor": "Intel Xeon Platinum 8488C",
            "cores": 2,
            "memory_gib": 15.3,
            "system": "Linux",
        },
        "recipe": {
            "name": "primer",
            "text": {"primer": {"seed": 0, "n_documents": 24_000}},
            "pretrain": {"size": "5m", "max_steps": 600},
        },
        "stages": full_stages(),
        "suites": suites(),
        "suite_mean": {"base": 0.2551, "tuned": 0.8894},
        "chance": {name: chance for name, (_, _, chance) in SUITES.items()},
        "benchmarks": {"arc_easy": {"base": benchmark(0.275, 0), "tuned": benchmark(0.465, 3)}},
        "evaluations": EVALUATIONS,
        "lineage": [
            {
                "stage": name,
                "kind": kind,
                "digest": digest[name],
                "parents": [digest[p] for p in parents],
                "path": f"builds/primer/{name}",
                "seconds": 4.2 + i * 30,
            }
            for i, (name, kind, parents) in enumerate(chain)
        ],
    }


def poisoned(value, poison):
    if isinstance(value, dict):
        return {key: poisoned(item, poison) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [poisoned(item, poison) for item in value]
    return value + poison if isinstance(value, str) else value


def parsed(summary: dict) -> BuildSummary:
    return BuildSummary.model_validate(summary)


def rendered(summary: dict) -> str:
    return render_report(parsed(summary))


def card_of(summary: dict, stage: str) -> str:
    return model_card(parsed(summary), stage)
