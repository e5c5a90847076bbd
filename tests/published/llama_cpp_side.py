"""llama.cpp's side of a comparison, run by the interpreter that has llama-cpp-python: ids of texts and greedy tokens.

Reads a JSON object from standard input (`file`, `texts`, `prompts` of ids, `n` tokens, `stop` ids) and prints one.
Everything is computed in float32, the cache too.
"""

from __future__ import annotations

import json
import sys
from itertools import islice

from llama_cpp import Llama


def main() -> None:
    job = json.load(sys.stdin)
    model = Llama(job["file"], n_ctx=256, type_k=0, type_v=0, flash_attn=False, verbose=False)
    ids = [model.tokenize(text.encode(), add_bos=False, special=False) for text in job["texts"]]
    greedy = []
    for prompt in job["prompts"]:
        model.reset()
        tokens = []
        for token in islice(model.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0), job["n"]):
            if token in job["stop"]:
                break
            tokens.append(token)
        greedy.append(tokens)
    print(json.dumps({"ids": ids, "greedy": greedy}))


if __name__ == "__main__":
    main()
