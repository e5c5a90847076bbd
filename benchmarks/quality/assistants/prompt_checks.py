"""The primer's rules of grading as a checker of `parakit prompts`: it runs alone in the sandbox, with no package to import."""

import re


def check(answer, item):
    """Whether an answer is right by the item's rule: `check`, `accept` and `reject` are columns of the table."""
    text = _plain(answer)
    if item["check"] == "exact":
        return text in {_plain(one) for one in (*item["answers"], *item["accept"])}
    if item["check"] == "final_answer":
        numbers = [re.findall(r"(?<![\d.])-?\d+", one) for one in (answer, item["answer"])]
        return bool(numbers[0]) and int(numbers[0][-1]) == int(numbers[1][-1])
    wanted = item["accept"] or [_plain(item["answer"])]
    return all(_has(text, one) for one in wanted) and not any(_has(text, one) for one in item["reject"])


def _plain(text):
    return " ".join(text.replace("\u2019", "'").lower().split()).strip("\"'. ")


def _has(text, alternatives):
    words = "|".join(re.escape(word.lower()) for word in alternatives.split("|"))
    return re.search(rf"(?<!\w)(?:{words})(?!\w)", text) is not None
