"""The reports of builds, served to be read and to do nothing: no script, no request, no form, no access to the studio.

A report is a file on disk that anybody may have written, so its response has the policy of a sandbox (the page gets an origin
of its own). The folder is looked up by its name among those that were found, and is never a path that a request makes.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

from fastapi import HTTPException
from fastapi.responses import FileResponse, Response

from parakit.common.errors import UserError
from parakit.serving.studio.inventory.finding import find_folders, named
from parakit.serving.studio.inventory.scores import CORPUS_PAGE, REPORT

URL = "/studio-reports"
FILES = (REPORT, CORPUS_PAGE)
POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def report_url(name: str, file: str) -> str:
    """Where the report of a folder of this name is served."""
    return f"{URL}/{file}?folder={quote(name)}"


def report_file(root: Path, folder: str, file: str) -> Path:
    """The file; `UserError` where there is none, or where it is not a plain file inside the root."""
    if file not in FILES:
        raise UserError(f"{file!r:.80}: is no report", f"one of: {', '.join(FILES)}")
    path = named(find_folders(root), folder).path / file
    if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{folder} has no {file}", "build it again")
    return path


async def serve_report(root: Path, folder: str, file: str) -> Response:
    """The response of the route."""
    try:
        path = await asyncio.to_thread(report_file, root, folder, file)
    except UserError as error:
        raise HTTPException(404, error.message) from None
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
    return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)
