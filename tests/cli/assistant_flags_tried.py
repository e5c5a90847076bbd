"""As `flags_tried`, of the commands of assistants: documents, tools and prompts."""

from __future__ import annotations

from tests.cli.flags_tried import Inert, inert

ASSISTANT_INERT: list[Inert] = [
    *inert("agent", "MODEL task", model_name="gpt", seed="3"),
    *inert("agent", "http://localhost:1/v1 task", device="cpu"),
    *inert("mcp", "TEXT", host="localhost"),
    *inert("index search", "INDEX water", n_reranked="5"),
    *inert("index search", "INDEX water --by words", n_candidates="5"),
    *inert("index fit", "INDEX --by words", n_candidates="5", n_reranked="5"),
    *inert("index fit", "INDEX --questions TEXT", n_questions="5"),
    *inert("index eval", "INDEX --questions TEXT", n_questions="5", n_reranked="5"),
    *inert("index eval", "INDEX", n_passages="5", n_candidates="5", context_tokens="9", max_new_tokens="5"),
    *inert("index eval", "INDEX", temperature="1", threshold="1"),
    *inert("index data", "INDEX --output OUT", n_negatives="2"),
    *inert("index data", "INDEX --output OUT --kind embed", n_passages="2", refusal_share="0.5"),
    *inert("ask", "MODEL INDEX water", n_reranked="5", rewrite="model"),
    *inert("ask", "MODEL INDEX water --by words", n_candidates="5"),
    *inert(
        "prompts run", "MODEL role --items TEXT", n_shots="2", select="similar", overwrite="", model_name="m"
    ),
    *inert("prompts run", "MODEL role", metric="f1", checker="TEXT", limit="3", answer_field="a", seed="1"),
    *inert("prompts run", "MODEL role", judge="MODEL", calibrate="", examples="TEXT", output="OUT"),
    *inert("prompts run", "MODEL role --items TEXT", criterion="kind"),
    *inert("prompts compare", "MODEL role role --items TEXT", n_shots="2", select="similar", overwrite=""),
    *inert("prompts compare", "MODEL role role --items TEXT", criterion="kind", model_name="m"),
    *inert("prompts sample", "MODEL role --items TEXT", criterion="kind", overwrite="", model_name="m"),
]
ASSISTANT_OTHERS = {
    "agent": {
        *("tools", "mcp", "allow", "system", "transcripts", "json", "temperature", "parallel"),
        *("tool_timeout", "max_result_chars", "max_steps", "max_tokens", "max_seconds", "max_repeats"),
        *("max_calls", "max_new_tokens"),
    },
    "mcp": {"http", "device"},
    "index": {
        *("include", "exclude", "follow_links", "encoding", "text_field", "text_template", "clean"),
        *("passage_chars", "overlap_chars", "language", "encoder", "output", "device", "overwrite", "json"),
        "n_passages",
    },
    "index eval": {
        *("questions", "model", "reranker", "encoder", "device", "json"),
    },
    "index fit": {
        *("questions", "max_refused", "n_passages", "by", "reranker", "encoder", "device", "json"),
    },
    "index data": {"output", "kind", "wordings", "encoder", "device", "overwrite", "json"},
    "index search": {"n_passages", "by", "reranker", "encoder", "device", "json"},
    "prompts sample": {
        *("metric", "checker", "judge", "answer_field", "limit", "n_samples", "temperature", "verifiers"),
        *("budgets", "seed", "items", "set", "device", "output", "json"),
    },
    "prompts run": {"items", "set", "device", "json"},
    "prompts compare": {
        *("metric", "checker", "judge", "answer_field", "limit", "examples", "calibrate", "seed"),
        *("items", "set", "device", "output", "json"),
    },
    "ask": {
        *("n_passages", "by", "reranker", "context_tokens", "max_new_tokens", "temperature", "threshold"),
        *("model_name", "encoder", "device", "json"),
    },
}
