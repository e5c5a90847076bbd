"""Folders as companies have them, made from a seed: 40 files of varied kinds, and what must hold when they are read.

`python -m tests.attacks.data.company_folders --n 20` makes 20 folders, prepares a corpus of each, and counts the claims
that hold: every file is read to the letter or named with a reason, no text is in two splits, a log that drowns the rest is
named.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
from collections import Counter
from pathlib import Path

from parakit.common.files import read_json
from parakit.data.config import TextConfig
from parakit.data.corpus import iter_corpus, prepare_corpus
from parakit.data.splits import SPLITS
from parakit.training.doctor.corpus import check_corpus
from tests.data.sentences import SENTENCES

ENCODINGS = {
    "German": ("utf-8", "latin-1", "cp1252", "utf-16", "utf-8-sig"),
    "French": ("utf-8", "cp1252", "mac_roman"),
    "Swedish": ("latin-1", "utf-16-le"),
    "Polish": ("cp1250", "iso8859-2"),
    "Russian": ("cp1251", "koi8-r", "utf-16-be"),
    "Greek": ("cp1253", "utf-32"),
    "Japanese": ("shift_jis", "euc_jp", "utf-8"),
    "Chinese": ("gb18030", "utf-8"),
    "Korean": ("cp949",),
    "English": ("cp1252", "utf-8"),
}
N_TEXTS = 28


def letter(language: str, draw: random.Random, n: int = 30) -> str:
    """Some paragraphs of a language, in which the words of its sentence are shuffled."""
    words = SENTENCES[language].split() if " " in SENTENCES[language].strip() else list(SENTENCES[language])
    joint = " " if len(words) < 40 else ""
    lines = [joint.join(draw.choices(words, k=12)) + f" {draw.randrange(10**6)}." for _ in range(n)]
    return f"{SENTENCES[language]}\n" + "\n".join(lines) + "\n"


def log_text(draw: random.Random, n_bytes: int) -> str:
    """Lines of a service's log."""
    events = [
        "GET /index.html 200 served in",
        "POST /login 302 user session opened in",
        "cache entry expired after",
    ]
    lines, size = [], 0
    while size < n_bytes:
        time = f"2026-03-{draw.randint(1, 28):02} {draw.randint(0, 23):02}:00:01"
        line = f"{time} INFO web {draw.choice(events)} {draw.randint(1, 900)} ms"
        lines.append(line)
        size += len(line) + 1
    return "\n".join(lines) + "\n"


def contract(draw: random.Random) -> list[str]:
    """The words of a contract."""
    parties = [f"Party{draw.randrange(1000)}" for _ in range(2)]
    terms = [
        "supplier",
        "customer",
        "deliver",
        "goods",
        "payment",
        "notice",
        "term",
        "liability",
        "agree",
        "section",
    ]
    return [draw.choice([*terms, *parties, str(draw.randint(1, 99))]) for _ in range(1_500)]


def make_folder(folder: Path, seed: int, log_bytes: int = 3_000_000) -> dict[str, str | None]:
    """Write 40 files and some links; returns the text of each that is read, None for one that is not."""
    draw = random.Random(seed)
    texts: dict[str, str | None] = {}

    def write(name: str, raw: bytes, text: str | None) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw)
        texts[name] = text

    for k in range(N_TEXTS):
        language = draw.choice(list(ENCODINGS))
        encoding = draw.choice(ENCODINGS[language])
        text = letter(language, draw)
        ending = draw.choice(["txt", "md", "txt.gz", "log", "org"])
        ends = draw.choice(["\n", "\r\n"])
        write(f"letters/{k:02} {encoding}.{ending}", text.replace("\n", ends).encode(encoding), text)
    words = contract(draw)
    changed = [word if draw.random() > 0.02 else "amended" for word in words]
    write("contracts/frame contract.txt", " ".join(words).encode(), " ".join(words))
    write("contracts/frame contract v2 FINAL.txt", " ".join(changed).encode(), " ".join(changed))
    service = log_text(draw, log_bytes)
    write("service.log", service.encode(), service)
    write(
        "notes.jsonl",
        "".join(json.dumps({"text": letter("English", draw, 3)}) + "\n" for _ in range(5)).encode(),
        None,
    )
    write(
        "script.py",
        b"def main():\n    return 'a small program of the company'\n",
        "def main():\n    return 'a small program of the company'\n",
    )
    for name, raw in {
        "empty.txt": b"",
        "drawing.dwg": b"AC1032 a drawing",
        "sheet.xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2_000),
        "scan.pdf": b"%PDF-1.7 \x00\x01",
        "binary.txt": bytes(draw.randrange(256) for _ in range(3_000)),
        "photo.jpg": b"\xff\xd8\xff",
        ".hidden.txt": b"hidden",
    }.items():
        write(name, raw, None)
    for name, target in {"to root": "/", "up": "..", "loop a": "loop b", "loop b": "loop a"}.items():
        (folder / name).symlink_to(target)
    return texts


def attack(seed: int, work: Path, log_bytes: int = 3_000_000) -> Counter[str]:
    """Make one folder, prepare its corpus, and count each claim as held or not ("NOT ...")."""
    folder = work / "company"
    texts = make_folder(folder, seed, log_bytes)
    prepare_corpus(TextConfig(paths=(str(folder),)), work / "corpus", True)
    report = read_json(work / "corpus" / "report.json")
    parts: dict[str, list[str]] = {}
    splits: dict[str, set[str]] = {}
    for split in SPLITS:
        for document in iter_corpus(work / "corpus", split):
            name = document.source.removeprefix("company/")
            parts.setdefault(name, []).append(document.text)
            splits.setdefault(name, set()).add(split)
    skipped = {entry["source"].removeprefix("company/") for entry in report["skipped_files"]}
    failed = {result.name for result in check_corpus(report) if not result.passed}
    counts: Counter[str] = Counter()

    def claim(what: str, holds: bool) -> None:
        counts[what if holds else f"NOT {what}"] += 1

    for name, text in texts.items():
        if name == "notes.jsonl":
            continue
        if text is None:
            claim("a file without text is named with a reason", name in skipped and name not in parts)
        elif name == "service.log":  # repeated pieces go
            claim("a large file is read", name in parts)
        else:
            read = "".join(parts.get(name, []))
            claim("a text is read to the letter", read == text)
            claim("no replacement character", "\ufffd" not in read)
    for where in splits.values():
        claim("a text is in one split", len(where) == 1)
    pair = [splits.get(f"contracts/frame contract{end}.txt") for end in ("", " v2 FINAL")]
    claim("two versions are in one split", pair[0] == pair[1])
    claim("every link that leads out is named", {"to root", "up"} <= skipped)
    claim("a loop of links is named", {"loop a", "loop b"} <= skipped)
    claim("the log that drowns the rest is named", {"source-dominates", "repeated-lines"} <= failed)
    claim("validation has five texts", report["splits"]["validation"]["sources"] >= 5)
    return counts


def main() -> None:
    """Run the attack `--n` times from consecutive seeds, and print what held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20)
    n, total = parser.parse_args().n, Counter[str]()
    for seed in range(n):
        with tempfile.TemporaryDirectory() as work:
            total += attack(seed, Path(work))
    for what, count in sorted(total.items()):
        print(f"{count:6,} {what}")
    raise SystemExit(any(what.startswith("NOT") for what in total))


if __name__ == "__main__":
    main()
