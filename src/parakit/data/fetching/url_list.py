"""Fetching a list of addresses, a line each, into one file next to it.

Pages that are saved stay as they are, and what failed is fetched again, so that a run that was killed continues. Servers
get one request at a time. Each page ends as saved, or with a reason that reading reports.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from parakit.common.errors import UserError
from parakit.common.files import disk_errors, writing_file
from parakit.common.progress import Bar, log, progress
from parakit.data.fetching.locations import saved_pages
from parakit.data.fetching.saved_pages import SavedPage, read_index, write_failure, write_page
from parakit.data.fetching.web_request import PRIVATE, FetchError, FetchLimits, fetch
from parakit.data.readers.compression import BLOCK

MAX_PAGE = 2**26  # bytes, as for a record of a crawl
MAX_ADDRESSES, MAX_CHARS = 100_000, 4_000
_THREADS = 4  # each fetches from one server at a time


def addresses(file: Path) -> list[str]:
    """The addresses of a list, each once: one a line, `#` begins a comment. `UserError` for a list without any."""
    found: dict[str, None] = {}
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if (address := line.strip()) and not address.startswith("#"):
                    found[address] = None
                if len(address) > MAX_CHARS:
                    raise UserError(
                        f"{file}: line {number} is over {MAX_CHARS:,} characters", "write one address a line"
                    )
                if len(found) > MAX_ADDRESSES:
                    raise UserError(
                        f"{file}: has over {MAX_ADDRESSES:,} addresses", "divide it into several lists"
                    )
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})", "check the path") from None
    if not found:
        raise UserError(f"{file}: has no address", "write one on each line, such as https://example.org/page")
    return list(found)


def unfetched(file: Path) -> Iterator[tuple[str, str, str]]:
    """Address, reason and detail of each address of a list whose page is not saved."""
    saved = {one.address: one for one in read_index(saved_pages(file))}
    for address in addresses(file):
        if (one := saved.get(address)) is None:
            yield address, "not fetched", ""
        elif one.failure is not None:
            yield address, "cannot be fetched", one.failure


def fetch_list(file: Path, *, seconds: float, max_bytes: int, allow_private: bool = False) -> None:
    """Fetch the pages of a list that are not saved, and remove those that are not in it any more. `seconds` bounds a page,
    `max_bytes` all of them together (`UserError`; what was fetched until then stays for the next run).
    """
    wanted, target = addresses(file), saved_pages(file)
    part = target.with_name(f"{target.name}.part")
    saved = {one.address: one for one in read_index(target)}
    is_complete = all(address in saved and saved[address].is_good for address in wanted)
    if is_complete and list(saved) == wanted and not part.exists():
        return
    with disk_errors(part), open(part, "ab") as out:
        kept = list(read_index(part))
        out.truncate(kept[-1].end if kept else 0)
        known = {one.address for one in [*saved.values(), *kept] if one.is_good}
        missing = [address for address in wanted if address not in known]
        if missing:
            n_before = sum(one.end - one.start for one in [*saved.values(), *kept] if one.is_good)
            limits = FetchLimits(seconds, min(MAX_PAGE, max_bytes), allow_private)
            with progress(f"fetch {file.name}", len(missing), "pages") as bar:
                _Fetching(out, limits, max_bytes - n_before, file, bar).run(missing)
    _join(target, part, wanted)
    failed = list(unfetched(file))
    log(f"{file}: {len(wanted) - len(failed):,} of {len(wanted):,} addresses answered; saved in {target}")
    if failed:
        address, _, detail = failed[0]
        way = "; private_addresses allows it" if PRIVATE in detail else ""
        log(f"{file}: such as {address}: {detail}{way}")


class _Fetching:
    def __init__(self, out: IO[bytes], limits: FetchLimits, left: int, file: Path, bar: Bar) -> None:
        self._out, self._limits, self._left, self._file, self._bar = out, limits, left, file, bar
        self._lock = threading.Lock()

    def run(self, missing: list[str]) -> None:
        servers: dict[str, list[str]] = {}
        for address in missing:
            servers.setdefault(address.partition("//")[2].partition("/")[0].lower(), []).append(address)
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(self._from_server, servers.values()):
                pass
        if self._left < 0:
            raise UserError(
                f"{self._file}: its pages take more than max_fetch_bytes",
                "raise max_fetch_bytes, or take addresses out of the list",
            )

    def _from_server(self, addresses: list[str]) -> None:
        for address in addresses:
            if self._left < 0:
                return
            page = failure = None
            try:
                page = fetch(address, self._limits)
            except FetchError as error:
                failure = str(error)
            with self._lock:
                self._left -= len(page.body) if page else 0
                if page and self._left >= 0:
                    write_page(self._out, address, page)
                elif failure is not None:
                    write_failure(self._out, address, failure)
                self._bar.advance()


def _join(target: Path, part: Path, wanted: list[str]) -> None:
    """Write the saved pages in the order of the list."""
    places: dict[str, tuple[Path, SavedPage]] = {}
    for path in (target, part):
        for one in read_index(path):
            if one.is_good or one.address not in places or not places[one.address][1].is_good:
                places[one.address] = path, one
    with writing_file(target) as out:
        for address in wanted:
            if address in places:
                path, one = places[address]
                with open(path, "rb") as source:
                    source.seek(one.start)
                    for start in range(one.start, one.end, BLOCK):
                        out.write(source.read(min(BLOCK, one.end - start)))
    os.unlink(part)
