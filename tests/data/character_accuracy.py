"""Character accuracy: 1 - edit distance / length of the truth, over texts whose white space is single spaces."""

from __future__ import annotations


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's distance, by Myers 1999, "A fast bit-vector algorithm for approximate string matching"."""
    masks: dict[str, int] = {}
    for i, character in enumerate(a):
        masks[character] = masks.get(character, 0) | 1 << i
    full, last = (1 << len(a)) - 1, 1 << (len(a) - 1) if a else 0
    up, down, distance = full, 0, len(a)
    if not a:
        return len(b)
    for character in b:
        match = masks.get(character, 0)
        x = match | down
        d0 = ((((x & up) + up) ^ up) | x) & full
        more, less = (down | ~(d0 | up)) & full, up & d0
        distance += bool(more & last) - bool(less & last)
        more, less = (more << 1 | 1) & full, less << 1 & full
        up, down = (less | ~(d0 | more)) & full, more & d0
    return distance


def character_accuracy(truth: str, text: str) -> float:
    """1 where the texts are equal but for white space."""
    truth, text = " ".join(truth.split()), " ".join(text.split())
    return 1 - edit_distance(truth, text) / max(1, len(truth))
