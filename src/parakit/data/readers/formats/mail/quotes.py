"""Takes quoted replies and signatures out of the text of an e-mail.

Quoted are lines that begin with ">", with the line that introduces them ("On ... wrote:" in a dozen languages), what
follows such a line to the end where the text comes from HTML (whose quotes have no mark), and what follows a copied head
("-----Original Message-----", or "From:", "Sent:", "To:", "Subject:"). A forwarded message is no quote. A signature
follows a line "-- " (RFC 3676, section 4.3), or is the line of a telephone's mail program at the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_SIGNATURE = 20  # lines
_QUOTE = re.compile(r"\s{0,3}>")
_INTRODUCTION = re.compile(
    r"(?:On|Am|Le|El|Il|Em|Op|Den|Dne|W dniu|Στις|В|On|Pada|Vào|Vao|Tarihinde)\b.{3,300}"
    r"(?:wrote|writes|schrieb|a écrit|escribió|ha scritto|escreveu|schreef|skrev|napsal|napisał|έγραψε|пишет|написал"
    r"|menulis|viết|şunu yazdı)"
    r"(?:\(a\))?.{0,100}:\s*$"
    r"|.{3,300}(?:wrote|schrieb|a écrit|escribió|ha scritto|escreveu|schreef|skrev|kirjoitti|napsal|napisał|пишет|писал"
    r"|написал)(?:\(a\))?\s?:\s*$"
    r"|.{3,300}(?:写道|寫道|のメール|님이 작성)[:：]?\s*$",
    re.DOTALL,
)
_ORIGINAL = re.compile(
    r"\s*-{2,}\s*(?:Original Message|Original Appointment|Ursprüngliche Nachricht|Originalnachricht|Message d['’]origine"
    r"|Mensaje original|Messaggio originale|Mensagem original|Oorspronkelijk bericht|Ursprungligt meddelande"
    r"|Oprindelig meddelelse|Opprinnelig melding|Исходное сообщение|原始邮件|元のメッセージ)\s*-{2,}\s*$",
    re.IGNORECASE,
)
_HEAD = re.compile(r"\s*\*?(?:From|Von|De|Da|Van|Från|Fra|Od|От|发件人|差出人)\s?[:：]\*?\s*\S")
_HEAD_NEXT = re.compile(
    r"\s*\*?(?:Sent|Date|Gesendet|Datum|Envoyé|Enviado|Fecha|Inviato|Data|Verzonden|Skickat|Sendt|Wysłano|Отправлено|发送时间|送信日時)"
    r"\s?[:：]"
)
FORWARDED = re.compile(
    r"forward|weitergeleitet|transféré|reenviado|inoltrato|encaminhad|doorgestuurd|переслан|转发|転送",
    re.IGNORECASE,
)
_TELEPHONE = re.compile(
    r"(?:Sent from my|Get Outlook for|Von meinem .{1,30} gesendet|Gesendet von|Envoyé de(?:puis)? mon|Enviado desde mi|"
    r"Enviado do meu|Inviato da|Verstuurd vanaf mijn|Skickat från min|Отправлено с)\b.{0,60}$"
)


@dataclass(frozen=True, slots=True)
class SplitMail:
    """What the writer wrote, and how many lines were quoted or a signature."""

    text: str
    n_quoted: int
    n_signature: int


def split_quotes(text: str, from_html: bool = False) -> SplitMail:
    """Divide the text of an e-mail."""
    lines = text.splitlines()
    lines, n_signature = _without_signature(lines)
    kept: list[str] = []
    n_quoted = 0
    number = 0
    while number < len(lines):
        line = lines[number]
        if _QUOTE.match(line):
            n_quoted += 1 + _drop_introduction(kept)
            number += 1
            continue
        if _ends_here(lines, number, kept) or (from_html and _INTRODUCTION.match(line.strip())):
            n_quoted += sum(bool(rest.strip()) for rest in lines[number:])
            break
        kept.append(line)
        number += 1
    kept, n_more = (
        _without_signature(kept) if n_quoted else (kept, 0)
    )  # a reply above: its signature is before the quote
    return SplitMail("\n".join(kept).strip("\n"), n_quoted, n_signature + n_more)


def _ends_here(lines: list[str], number: int, kept: list[str]) -> bool:
    """Whether the copied head of an earlier message begins at this line."""
    line = lines[number]
    if _ORIGINAL.match(line):
        return True
    if not (_HEAD.match(line) and any(_HEAD_NEXT.match(after) for after in lines[number + 1 : number + 4])):
        return False
    before = next((earlier for earlier in reversed(kept) if earlier.strip()), "")
    return bool(before) and not FORWARDED.search(before)


def _drop_introduction(kept: list[str]) -> int:
    """Take the lines that introduce a quote off the end; their number. They may be wrapped, two at most."""
    end = len(kept)
    while end and not kept[end - 1].strip():
        end -= 1
    for n in (1, 2):
        if n <= end and _INTRODUCTION.match(" ".join(line.strip() for line in kept[end - n : end])):
            if n == 1 and end >= 2 and kept[end - 2].strip() and not _starts_introduction(kept[end - 1]):
                continue  # "On Monday, 3 May 2021," is the line above
            del kept[end - n :]
            return n
    return 0


def _starts_introduction(line: str) -> bool:
    return bool(re.match(r"\s*(?:On|Am|Le|El|Il|Em|Op|Den|Dne|W dniu|Στις|В)\b", line))


def _without_signature(lines: list[str]) -> tuple[list[str], int]:
    n_after, cut = 0, None
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        if n_after > MAX_SIGNATURE or _QUOTE.match(line):
            break
        if line in ("-- ", "--"):
            cut = number, n_after
        n_after += bool(line.strip())
    if cut is not None:
        return lines[: cut[0]], cut[1]
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    if end and _TELEPHONE.match(lines[end - 1].strip()):
        return lines[: end - 1], 1
    return lines, 0
