"""E-mails: the text that the writer wrote, quotes and signatures apart in many languages; attachments; whole mailboxes."""

from email.message import EmailMessage
from pathlib import Path

import pytest

from parakit.data.config import TextConfig
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.data.readers.formats.mail.quotes import split_quotes


def read(path: Path, **settings: object) -> tuple[dict[str, str], ReadReport]:
    report = ReadReport()
    config = TextConfig.parse({"paths": [str(path)]} | settings)
    return {document.source: document.text for document in read_documents(config, report)}, report


@pytest.mark.parametrize(
    "introduction",
    [
        "On Mon, May 3, 2021 at 10:00 AM A. Writer <a@b.c> wrote:",
        "On Mon, May 3, 2021 at 10:00 AM A. Writer\n<a@b.c> wrote:",
        "Am 03.05.2021 um 10:00 schrieb A. Writer:",
        "Le lun. 3 mai 2021 à 10:00, A. Writer a écrit :",
        "El lun, 3 may 2021 a las 10:00, A. Writer escribió:",
        "Il giorno lun 3 mag 2021 alle ore 10:00 A. Writer ha scritto:",
        "Em seg., 3 de mai. de 2021 às 10:00, A. Writer escreveu:",
        "Op ma 3 mei 2021 om 10:00 schreef A. Writer <a@b.c>:",
        "Den mån 3 maj 2021 kl 10:00 skrev A. Writer:",
        "пн, 3 мая 2021 г. в 10:00, А. Автор пишет:",
        "W dniu 03.05.2021 o 10:00, A. Writer napisał(a):",
        "A. Writer 于2021年5月3日周一 10:00写道：",
    ],
)
def test_a_quote_goes_with_the_line_that_introduces_it(introduction: str) -> None:
    text = f"Thanks.\n\n{introduction}\n> What was it?\n>\n> Tell me.\n\nIt was the door.\n"
    split = split_quotes(text)
    assert split.text == "Thanks.\n\n\nIt was the door."
    assert split.n_quoted == 3 + introduction.count("\n") + 1
    assert split.n_signature == 0


def test_signatures_and_copied_heads_go_and_forwarded_messages_stay() -> None:
    assert split_quotes("Hello\n-- \nA. B.\nStreet 1\n").n_signature == 2
    assert split_quotes("Hello\n\nSent from my telephone\n").text == "Hello"
    head = "From: A\nSent: Monday\nTo: B\nSubject: C\n\nold text"
    assert split_quotes(f"My answer\n\n-----Original Message-----\n{head}").text == "My answer"
    assert split_quotes(f"My answer\n\n{head}").text == "My answer"
    forwarded = f"See below.\n\n---------- Forwarded message ---------\n{head}"
    assert split_quotes(forwarded).text == forwarded
    table = "From: here\nto there, a long way.\n\nOn the other hand, it said:\nnothing"
    assert split_quotes(table).text == table


def message(text: str = "The body, schön.") -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"], mail["From"] = "Grüße aus Köln", "Jörg <j@example.org>"
    mail["Date"] = "Mon, 03 May 2021 10:00:00 +0200"
    mail.set_content(text + "\n\nOn Monday A wrote:\n> quoted\n")
    return mail


HEAD = "Subject: Grüße aus Köln\nFrom: Jörg <j@example.org>\nDate: 2021-05-03 10:00+02:00\n\n"


def test_plain_text_is_taken_and_attachments_are_read_as_files(tmp_path: Path) -> None:
    mail = message()
    mail.add_alternative("<p>The <b>other</b> form</p>", subtype="html")
    mail.add_attachment(b"attached text", maintype="text", subtype="plain", filename="notes.txt")
    mail.add_attachment(b"\x89PNG\r\n", maintype="image", subtype="png", filename="../x.png")
    (tmp_path / "a.eml").write_bytes(mail.as_bytes())
    texts, report = read(tmp_path / "a.eml")
    assert texts == {"a.eml": HEAD + "The body, schön.\n", "a.eml/notes.txt": "attached text"}
    assert report.quoted_lines == 2
    assert report.skipped.total() == 1
    assert "> quoted" in read(tmp_path / "a.eml", email_quotes="keep")[0]["a.eml"]


def test_html_is_read_where_there_is_nothing_else_without_what_it_quotes(tmp_path: Path) -> None:
    mail = EmailMessage()
    mail["Subject"] = "x"
    page = "<p>One &amp; two</p><div class='gmail_quote'>On Monday A wrote:<blockquote>old</blockquote></div>"
    mail.set_content(page, subtype="html")
    (tmp_path / "a.eml").write_bytes(mail.as_bytes())
    texts, report = read(tmp_path / "a.eml")
    assert texts["a.eml"].split() == ["Subject:", "x", "One", "&", "two"]
    assert report.quoted_lines >= 1


def test_charsets_that_are_wrong_and_flowed_lines_are_read(tmp_path: Path) -> None:
    head = b"Subject: caf\xc3\xa9\nContent-Type: text/plain; charset=%s%s\n\n"
    (tmp_path / "a.eml").write_bytes(head % (b"us-ascii", b"") + "“quoted” café".encode("cp1252"))
    (tmp_path / "b.eml").write_bytes(head % (b"no-such", b"; format=flowed") + b"one \ntwo\nthree")
    texts, _ = read(tmp_path)
    assert list(texts.values()) == ["Subject: café\n\n“quoted” café\n", "Subject: café\n\none two\nthree\n"]


def test_a_mailbox_cut_in_the_middle_gives_its_messages(tmp_path: Path) -> None:
    one = b"From a@b.c Mon May  3 10:00:00 2021\n" + message("First.").as_bytes() + b"\n"
    two = b"From a@b.c Mon May  3 11:00:00 2021\n" + message("Second\n>From here on.").as_bytes() + b"\n"
    (tmp_path / "Inbox").write_bytes(one + two[:-30])
    texts, report = read(tmp_path)
    name = tmp_path.name
    assert list(texts) == [f"{name}/Inbox:1", f"{name}/Inbox:2"]
    assert texts[f"{name}/Inbox:1"] == HEAD + "First.\n"
    assert "From here on." in texts[f"{name}/Inbox:2"] or "Second" in texts[f"{name}/Inbox:2"]
    assert report.formats == {"mailbox": 1}
