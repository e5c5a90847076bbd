"""The other side: gensim's word2vec (Mikolov et al. 2013) on a file of words, a text a line. Runs where gensim is installed.

Prints a JSON line with the seconds; the vectors go to a file of numpy arrays.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np


def main(text: str, out: str, d_vector: int, window: int, epochs: int, skip_gram: int, seed: int) -> None:
    """Train and save words and vectors (N, D). One thread, so that the seed fixes the result."""
    from gensim.models.word2vec import LineSentence, Word2Vec

    started = time.perf_counter()
    settings = {"vector_size": d_vector, "window": window, "epochs": epochs, "sg": skip_gram}
    model = Word2Vec(LineSentence(text), **settings, min_count=5, negative=5, workers=1, seed=seed)
    seconds = time.perf_counter() - started
    np.savez(out, words=np.array(model.wv.index_to_key), vectors=model.wv.vectors)
    print(json.dumps({"seconds": seconds, "words": len(model.wv)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:8]))
