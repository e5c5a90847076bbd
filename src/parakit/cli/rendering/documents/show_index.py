"""What `parakit show` prints of an index of documents."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from parakit.common.files import JsonObject

N_PASSAGES, MAX_CHARS = 3, 400


def describe_index(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """Files, passages, the encoder, the threshold, and the first passages."""
    from parakit.assistants.retrieval.store import PassageStore

    result, config = lineage["result"], lineage["config"]
    store = PassageStore(path)
    first = [f"{one.place}\n{one.text[:MAX_CHARS]}" for one in islice(store.all_passages(), N_PASSAGES)]
    store.close()
    encoder, threshold = config.get("encoder_record"), config.get("threshold")
    figures: JsonObject = {
        "index": {
            "files": result["n_files"],
            "passages": result["n_passages"],
            "vectors": f"{encoder['width']} dimensions, {encoder['path']}" if encoder else "none",
        }
    }
    if threshold:
        figures["threshold"] = {"value": threshold["value"], **threshold["weights"], **threshold["figures"]}
    return f"an index of {result['n_passages']:,} passages", figures, {"first passages": first}


def describe_answers(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """How well passages are found, what each model answers, and some of the last model's answers."""
    result = lineage["result"]
    retrieval = [
        {"search": search} | {name: round(one["value"], 3) for name, one in figures.items()}
        for search, figures in result["retrieval"].get("searches", {}).items()
    ]
    answers = {
        f"answers of {model}": {
            name.replace("_", " "): round(value["value"], 3) if isinstance(value, dict) else value
            for name, value in figures.items()
        }
        for model, figures in result["answers"].items()
    }
    samples = [f"{one['question']}\n{one['answer']}" for one in result["samples"]]
    what = f"answers to {result['retrieval'].get('n_questions', 0):,} questions about an index"
    return what, {"finding": retrieval, **answers}, {"answers": samples}
