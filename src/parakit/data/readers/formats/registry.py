"""The table of document formats: by which names a file is recognised, by which bytes, and which module reads it.

Add a format: one row here, and a module of this folder with

    def read(file: InputFile, config: TextConfig, report: ReadReport) -> Iterator[TextPart | InputFile]

`file.path` is a file on disk whose bytes are the document itself, decompressed, also where the document is a member of an
archive (then it is a temporary file, whose real name is in `file.source`). What `read` yields is in `formats/content.py`:

- `TextPart(text, source)`: a piece of text. Consecutive pieces of one `source` are one text, joined as they are, so a long
  document can be given page by page. The usual source is `file.source`; a message of a mailbox has `f"{file.source}:{n}"`.
- an `InputFile`, made by `Members.add(name, stream)`: a file inside this one (of an archive, or attached to a message),
  which is read by this registry before the next value is requested. Depth, number and size are bounded there.

A document that cannot be read raises `UnreadableFileError(reason, detail, hint)`; the reason is one of a few short ones that
are counted, and `skip_reasons.py` has the way to include files of each. Every other exception of a library becomes
`damaged NAME` with the message as detail; what was yielded before stays. A text that is yielded need not be repaired or
cut: encodings' bad bytes may be lone surrogates. Heavy libraries are imported inside functions, named in `needs`; a file
whose library is missing is left out with the reason "needs parakit[data]". With `rows` the module has `read_rows`, which
gives numbered rows: (row number, text | None where empty | the exception of a broken row). With `streams` it reads through
`open_input` or `open_text`, and a compressed file is not decompressed to disk first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from parakit.data.readers.input_file import Compression


@dataclass(frozen=True)
class Format:
    """One format. `title` names it in messages; `begins` is what `sniff` calls its first bytes, None for formats of text,
    which no bytes mark.
    """

    name: str
    title: str
    extensions: str
    module: str  # of this folder
    begins: str | None = None
    needs: tuple[str, ...] = ()
    rows: bool = False
    streams: bool = False


PROSE = "txt text md markdown rst adoc org log"
SOURCE_CODE = (
    "py pyi c h cc cpp cxx hpp hh cs java kt kts scala go rs swift m mm js mjs cjs jsx ts tsx vue rb "
    "php pl pm lua r jl hs ml mli fs fsx clj cljs ex exs erl elm dart zig nim d pas f f90 f95 sql sh "
    "bash zsh fish ps1 bat cmake mk proto graphql tf css scss less toml yaml yml ini cfg asm s v sv vhd "
    "vhdl lisp el scm rkt groovy gradle sol"
)
FORMATS = (
    Format("text", "text", f"{PROSE} {SOURCE_CODE}", "plain_text", streams=True),
    Format("jsonl", "JSON lines", "jsonl ndjson", "json_rows", rows=True, streams=True),
    Format("json", "JSON", "json", "json_rows", rows=True, streams=True),
    Format("parquet", "Parquet", "parquet", "columns", "parquet", rows=True, streams=True),
    Format("html", "HTML", "html htm xhtml", "html", needs=("resiliparse", "trafilatura"), streams=True),
    Format("epub", "EPUB", "epub", "epub", "zip", needs=("resiliparse",)),
    Format("xml", "XML", "xml rss atom", "xml", streams=True),
    Format("arrow", "Arrow", "arrow feather ipc", "columns", "arrow", rows=True),
    Format("csv", "CSV", "csv tsv tab", "csv_tables", rows=True, streams=True),
    Format("warc", "WARC", "warc wet", "warc", "warc", streams=True),
    Format("zip", "zip", "zip", "zip_archives", "zip"),
    Format("tar", "tar", "tar tgz tbz2 txz tzst", "tar_archives", "tar", streams=True),
    Format("pdf", "PDF", "pdf", "pdf.reader", "pdf", needs=("pypdfium2",)),
    Format("docx", "Word", "docx docm dotx dotm", "office.docx", "zip"),
    Format("pptx", "PowerPoint", "pptx pptm ppsx ppsm potx", "office.pptx", "zip"),
    Format("xlsx", "Excel", "xlsx xlsm xltx xlsb", "office.xlsx", "zip", rows=True),
    Format("odt", "OpenDocument text", "odt ott", "office.open_document", "zip"),
    Format("ods", "OpenDocument spreadsheet", "ods ots", "office.open_document", "zip", rows=True),
    Format("odp", "OpenDocument presentation", "odp otp", "office.open_document", "zip"),
    Format("fodt", "flat OpenDocument", "fodt fodp", "office.open_document"),
    Format("fods", "flat spreadsheet", "fods", "office.open_document", rows=True),
    Format("rtf", "RTF", "rtf", "office.rtf", "rtf", streams=True),
    Format("ole", "old Office", "doc dot xls xlt ppt pps msg", "office.old_office", "ole"),
    Format("eml", "e-mail", "eml", "mail.eml", streams=True),
    Format("mbox", "mailbox", "mbox mbx", "mail.mailbox", streams=True),
    Format("ipynb", "notebook", "ipynb", "notebook", streams=True),
    Format("latex", "LaTeX", "tex ltx latex", "latex", streams=True),
    Format("subtitles", "subtitles", "srt vtt", "subtitles", streams=True),
)
COMPRESSIONS: dict[str, Compression] = {
    "gz": "gz",
    "zst": "zst",
    "zstd": "zst",
    "xz": "xz",
    "lzma": "xz",
    "bz2": "bz2",
}
"""What a last extension says about compression."""
SHORT_NAMES: dict[str, Compression] = {"tgz": "gz", "tbz2": "bz2", "txz": "xz", "tzst": "zst"}
"""Extensions that say both."""
_MEDIA = (
    "svg jpg jpeg png gif bmp tif tiff webp heic ico psd mp3 wav flac ogg m4a aac mp4 mkv avi mov webm wmv"
    " ttf otf woff woff2"
)
_PROGRAMS = (
    "exe dll so dylib a o obj lib bin class jar war whl egg apk ipa dmg iso img deb rpm msi pyc pyo pyd pdb"
)
_DATA = "npy npz pt pth ckpt safetensors gguf onnx h5 hdf5 pkl pickle joblib db sqlite sqlite3 mdb swp"
NOT_TEXT = frozenset(f"{_MEDIA} {_PROGRAMS} {_DATA}".split())
"""Extensions of files that hold no document: they are left out unopened."""


@cache
def by_name() -> dict[str, Format]:
    """Every format by its name."""
    return {each.name: each for each in FORMATS}


@cache
def by_extension() -> dict[str, Format]:
    """Every format by each of its extensions, without the dot, in lower case."""
    return {extension: each for each in FORMATS for extension in each.extensions.split()}


@cache
def by_beginning() -> dict[str, Format]:
    """The format of files that `sniff` recognizes, the first of the table where there are several."""
    found: dict[str, Format] = {}
    for each in FORMATS:
        if each.begins:
            found.setdefault(each.begins, each)
    return found


def split_name(name: str) -> tuple[Format | None, Compression | None]:
    """The format that a file's name speaks for (None: none that is known) and its compression. A name without an extension
    is text.
    """
    stem, _, extension = name.rpartition(".")
    extension = extension.lower()
    compression = COMPRESSIONS.get(extension) if stem else None
    if compression:
        stem, _, extension = stem.rpartition(".")
        extension = extension.lower()
    elif stem and extension in SHORT_NAMES:
        compression = SHORT_NAMES[extension]
    return (by_name()["text"] if not stem else by_extension().get(extension)), compression
