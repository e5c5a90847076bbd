"""E-mails and mailboxes of known text, by the standard library, with quotes and signatures that are to go."""

from __future__ import annotations

import html
import mailbox
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

_QUOTE = "\n\nOn Monday, 3 May 2021, A. Writer wrote:\n> What did you find?\n> Please answer.\n-- \nB. Sender\nSome Street 1\n"


def message(title: str, paragraphs: list[str], only_html: bool = False) -> tuple[EmailMessage, str]:
    mail = EmailMessage(policy=SMTP)
    mail["Subject"], mail["From"], mail["To"] = title, "b@example.org", "a@example.org"
    mail["Date"] = "Tue, 04 May 2021 10:20:00 +0000"
    if only_html:
        body = "".join(f"<p>{html.escape(p)}</p>" for p in paragraphs)
        mail.set_content(
            f"<html><body>{body}<div class='gmail_quote'>On Monday A wrote:<blockquote>What?</blockquote></div></body></html>",
            subtype="html",
        )
    else:
        mail.set_content("\n\n".join(paragraphs) + _QUOTE, cte="quoted-printable")
        mail.add_alternative(f"<p>{html.escape(paragraphs[0])}</p>", subtype="html")
    head = f"Subject: {title}\nFrom: b@example.org\nTo: a@example.org\nDate: 2021-05-04 10:20+00:00"
    return mail, "\n\n".join([head, *paragraphs])


def write_eml(path: Path, title: str, paragraphs: list[str]) -> str:
    mail, truth = message(title, paragraphs, only_html="html" in path.stem)
    path.write_bytes(mail.as_bytes())
    return truth


def write_mbox(path: Path, title: str, paragraphs: list[str]) -> str:
    box = mailbox.mbox(path, create=True)
    truths = []
    for number, text in enumerate(paragraphs, 1):
        mail, truth = message(f"{title}, {number}", [text])
        box.add(mailbox.mboxMessage(mail))
        truths.append(truth)
    box.close()
    return "\n\n".join(truths)
