"""The child process that reads PDF files: one request a line of JSON on standard input, one answer on standard output.

An answer is a line of JSON with `n_bytes`, followed by that many bytes of text. After each page the child writes an empty
line, by which its parent sees that it is alive. PDFium is native code that has crashed on damaged files before, hence a
process of its own, with a limit on its memory.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints does not get between the answers
    _limit_memory(int(sys.argv[1]))
    from parakit.data.readers.formats.pdf.document import PdfError, pdf_text

    def alive() -> None:
        answers.write(b"\n")
        answers.flush()

    alive()
    for line in sys.stdin.buffer:
        text = b""
        try:
            found = pdf_text(Path(json.loads(line)["path"]), alive)
            text = found.text.encode("utf-8", "replace")
            answer = {
                "n_pages": found.n_pages,
                "scanned": found.scanned,
                "n_heads": found.n_heads,
                "n_broken": found.n_broken,
            }
        except PdfError as error:
            answer = {"reason": error.reason, "detail": error.detail}
        except MemoryError:
            answer = {"reason": "needs too much memory", "detail": ""}
        except Exception as error:  # a damaged file may break any assumption; the parent names it
            answer = {"reason": "damaged PDF", "detail": f"{type(error).__name__}: {error}"[:200]}
        answers.write(json.dumps(answer | {"n_bytes": len(text)}).encode() + b"\n" + text)
        answers.flush()


def _limit_memory(n_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = n_bytes if hard == resource.RLIM_INFINITY else min(n_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
