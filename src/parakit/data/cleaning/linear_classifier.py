"""A logistic regression on hashed words and pairs of words, in numpy.

A document is a sparse vector of unit length: for each bucket the logarithm of 1 + how often its words occur. Trained by
stochastic gradients with AdaGrad's step sizes (Duchi et al. 2011), in an order that follows from the texts alone.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic
from parakit.data.cleaning.text_units import split_words

BUCKETS = 2**18
MAX_WORDS = 5_000  # of a document that are looked at
EPOCHS, RATE, DECAY = 8, 0.5, 1e-6
HELD_OUT = 5  # one example of so many

_PAIR = np.uint32(0x9E3779B1)


@dataclass
class LinearClassifier:
    """`weights` (BUCKETS,) float32 and `bias` give the log odds that a document is good."""

    weights: np.ndarray
    bias: float
    threshold: float
    figures: JsonObject = field(default_factory=dict)

    def probability(self, text: str) -> float:
        """That `text` is good, in [0, 1]."""
        return float(_sigmoid(self._log_odds(*features(text))))

    def _log_odds(self, buckets: np.ndarray, values: np.ndarray) -> float:
        return float(self.weights[buckets] @ values) + self.bias

    def digest(self) -> str:
        """sha256 of the weights, the bias and the threshold."""
        numbers = np.array([self.bias, self.threshold], "<f8")
        return hashlib.sha256(self.weights.astype("<f4").tobytes() + numbers.tobytes()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write `classifier.safetensors` and `classifier.json` to `folder`."""
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "classifier.safetensors").write_bytes(save({"weights": self.weights}))
        values = {"bias": self.bias, "threshold": self.threshold, "figures": self.figures}
        write_json_atomic(folder / "classifier.json", values | {"digest": self.digest()})

    @classmethod
    def load(cls, folder: Path) -> LinearClassifier:
        """What `save` wrote. `UserError` where it is missing, damaged or of another version."""
        from safetensors.numpy import load_file

        try:
            values = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
            weights = load_file(folder / "classifier.safetensors")["weights"]
            made = cls(weights, float(values["bias"]), float(values["threshold"]), values["figures"])
            intact = weights.shape == (BUCKETS,) and made.digest() == values["digest"]
        except Exception as error:
            raise UserError(
                f"{folder} is no quality classifier: {error}", "train it again with save_to"
            ) from None
        if not intact:
            raise UserError(
                f"{folder}: the digest of the classifier is not its own", "train it again with save_to"
            )
        return made


def features(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The buckets of a text and their values, (n,) int64 and (n,) float32."""
    words = split_words(text.lower())[:MAX_WORDS]
    single = np.fromiter(
        (zlib.crc32(w.encode("utf-8", "surrogatepass")) for w in words), np.uint32, len(words)
    )
    pairs = (single[:-1] * _PAIR) ^ (single[1:] + np.uint32(1))
    hashes = np.concatenate([single, pairs * _PAIR]) >> np.uint32(32 - BUCKETS.bit_length() + 1)
    buckets, counts = np.unique(hashes.astype(np.int64), return_counts=True)
    values = np.log1p(counts).astype(np.float32)
    return buckets, values / max(1e-6, float(np.sqrt(values @ values)))


def train(good: list[str], bad: list[str]) -> LinearClassifier:
    """A classifier of `good` against `bad`, both kinds of equal weight."""
    labelled = dict.fromkeys(bad, 0.0) | dict.fromkeys(good, 1.0)
    order = sorted(labelled, key=_digest)
    examples = [(features(text), labelled[text]) for text in order]
    held_out, trained = examples[::HELD_OUT], [e for i, e in enumerate(examples) if i % HELD_OUT]
    n_good = sum(label for _, label in trained)
    weight = {
        1.0: 0.5 * len(trained) / max(1, n_good),
        0.0: 0.5 * len(trained) / max(1, len(trained) - n_good),
    }
    weights, squares = np.zeros(BUCKETS, np.float32), np.full(BUCKETS, 1e-4, np.float32)
    bias, bias_square = 0.0, 1e-4
    for epoch in range(EPOCHS):
        for (buckets, values), label in trained if epoch % 2 else reversed(trained):
            slope = weight[label] * (_sigmoid(float(weights[buckets] @ values) + bias) - label)
            gradient = slope * values + DECAY * weights[buckets]
            squares[buckets] += gradient * gradient
            weights[buckets] -= RATE * gradient / np.sqrt(squares[buckets])
            bias_square += slope * slope
            bias -= RATE * slope / bias_square**0.5
    made = LinearClassifier(weights, float(bias), 0.5)
    scores = np.array([_sigmoid(made._log_odds(*example)) for example, _ in held_out])
    labels = np.array([label for _, label in held_out]) > 0.5
    made.threshold, balanced = _best_threshold(scores, labels)
    made.figures = {
        "good_examples": int(sum(labelled.values())),
        "bad_examples": len(labelled) - int(sum(labelled.values())),
        "held_out": len(held_out),
        "held_out_balanced_accuracy": round(balanced, 4),
    }
    return made


def _best_threshold(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The threshold, half-way between two scores, with the highest mean accuracy over both kinds, and that accuracy."""
    if not len(scores):
        return 0.5, 0.0
    order = np.unique(scores)
    cuts = np.concatenate([[order[0] / 2], (order[1:] + order[:-1]) / 2, [(1 + order[-1]) / 2]])
    n_good, n_bad = max(1, int(labels.sum())), max(1, int((~labels).sum()))
    best = [
        (((scores >= cut) & labels).sum() / n_good + ((scores < cut) & ~labels).sum() / n_bad) / 2
        for cut in cuts
    ]
    top = np.flatnonzero(np.array(best) >= max(best) - 1e-12)
    chosen = top[len(top) // 2]
    return float(cuts[chosen]), float(best[chosen])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(x, -60, 60))))
