"""The child process in which a grammar is compiled for the first time: `python constraint_trial.py < JSON`.

Grammars come from outside, and some take llguidance minutes, gigabytes or the whole stack: a thread cannot be stopped, a
process can. It compiles the grammar for the 256 bytes as tokens, takes the first mask, and prints `{"error": null}` or the
reason why not. Imports nothing of Parakit, so that it starts in a few hundredths of a second.
"""

import contextlib
import json
import sys
import threading
from typing import Any

STACK_BYTES = 512 * 1024  # less than any thread has in which the grammar is compiled again


class Bytes:
    """A tokenizer of single bytes, in the form that llguidance reads."""

    is_tokenizer_wrapper = True

    def __init__(self) -> None:
        self.tokens = [*(bytes([value]) for value in range(255)), b"", b""]  # 0xFF is in no text
        vars(self).update({"bos_token_id": None, "eos_token_id": 256, "special_token_ids": [256]})

    def __call__(self, text: Any) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


def limit_process(cpu_seconds: int, memory_bytes: int) -> None:
    """End this process when it uses more; where the system has no such limits, only the parent's clock counts."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def first_error(grammar: str, limits: dict[str, Any]) -> str | None:
    """Why llguidance does not take the grammar, or None."""
    import llguidance

    entries: Any = Bytes()
    tokenizer = llguidance.LLTokenizer(entries, slices=[])
    parser_limits = llguidance.LLParserLimits(**limits)
    matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0, limits=parser_limits)
    if not matcher.is_error():
        matcher.compute_bitmask()
    return matcher.get_error() if matcher.is_error() else None


def main() -> None:
    """Read a request from standard input, answer on standard output."""
    request = json.load(sys.stdin)
    limit_process(request["cpu_seconds"], request["memory_bytes"])
    answer: dict[str, str | None] = {}
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(
        target=lambda: answer.update(error=first_error(request["grammar"], request["limits"]))
    )
    thread.start()
    thread.join()
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
