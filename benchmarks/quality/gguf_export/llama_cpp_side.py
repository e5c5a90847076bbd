"""llama.cpp's side: run by the interpreter that has llama-cpp-python.

Reads a JSON object from standard input and prints one. `file`; `texts` to tokenize; `prompts` of ids, each continued
greedily by `n` tokens or to one of `stop`; `windows` of ids, of which the most likely next token is computed after each;
`chats` to render by the file's own template. Everything is computed in float32, the cache too.
"""

from __future__ import annotations

import json
import sys
from itertools import islice

from llama_cpp import Llama  # type: ignore[import-not-found]
from llama_cpp.llama_chat_format import Jinja2ChatFormatter  # type: ignore[import-not-found]


def main() -> None:
    job = json.load(sys.stdin)
    model = Llama(
        job["file"], n_ctx=job["n_ctx"], n_batch=job["n_ctx"], type_k=0, type_v=0, flash_attn=False,
        logits_all=bool(job["windows"]), verbose=False,
    )  # fmt: skip
    ids = [model.tokenize(text.encode(), add_bos=False, special=False) for text in job["texts"]]
    with_bos = [model.tokenize(text.encode(), add_bos=True, special=False) for text in job["texts"][:3]]
    greedy = [continued(model, prompt, job["n"], job["stop"]) for prompt in job["prompts"]]
    top = []
    for window in job["windows"]:
        model.reset()
        model.eval(window)
        top.append(model.scores[: len(window)].argmax(-1).tolist())
    print(
        json.dumps(
            {
                "ids": ids,
                "with_bos": with_bos,
                "greedy": greedy,
                "top": top,
                "chats": rendered(model, job["chats"]),
            }
        )
    )


def continued(model: Llama, prompt: list[int], n: int, stop: list[int]) -> list[int]:
    model.reset()
    tokens = []
    for token in islice(model.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0), n):
        if token in stop:
            break
        tokens.append(token)
    return tokens


def rendered(model: Llama, chats: list[list[dict[str, str]]]) -> list[list[int]]:
    """Ids of each conversation with the assistant's turn opened; BOS only where the template writes it."""
    if not chats:
        return []
    bos, eos = (model._model.token_get_text(token) for token in (model.token_bos(), model.token_eos()))
    formatter = Jinja2ChatFormatter(model.metadata["tokenizer.chat_template"], eos_token=eos, bos_token=bos)
    texts = [formatter(messages=messages).prompt for messages in chats]
    return [model.tokenize(text.encode(), add_bos=False, special=True) for text in texts]


if __name__ == "__main__":
    main()
