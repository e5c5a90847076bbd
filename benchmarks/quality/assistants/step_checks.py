"""A verifier without the right answer: each written step, "7 + 5 = 12", is computed again, and must follow the one before."""

import re
from itertools import pairwise

_STEP = re.compile(r"(\d+) ([+-]) (\d+) = (\d+)")


def check(answer, item):
    """The share of right steps, 0 where none is written; a step that begins with another number than the last result, and a
    last number that is no result, count as wrong ones.
    """
    steps = [(int(a), sign, int(b), int(c)) for a, sign, b, c in _STEP.findall(answer)]
    if not steps:
        return 0.0
    right = [(a + b if sign == "+" else a - b) == c for a, sign, b, c in steps]
    joined = [second[0] == first[3] for first, second in pairwise(steps)]
    final = int(re.findall(r"\d+", answer)[-1]) == steps[-1][3]
    known = {int(number) for number in re.findall(r"\d+", item["question"])}
    given = [b in known for _, _, b, _ in steps]
    parts = [*right, *joined, final, *given]
    return sum(parts) / len(parts)
