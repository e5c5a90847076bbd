"""Fetch what the paths of a corpus name on the network, where the settings allow it."""

from __future__ import annotations

from parakit.data.config import TextConfig
from parakit.data.fetching.locations import URLS, hub_data, is_on_network, list_file


def fetch_named(config: TextConfig) -> None:
    """Save what `urls:` and `hub:` paths of `config` name and is not saved yet; nothing without `config.fetch`."""
    if not config.fetch:
        return
    from parakit.data.fetching.hub_datasets import (
        fetch_dataset,  # clients of the network, which few corpora need
    )
    from parakit.data.fetching.url_list import fetch_list

    for path in filter(is_on_network, dict.fromkeys((*config.validation_paths, *config.paths))):
        if path.startswith(URLS):
            fetch_list(
                list_file(path),
                seconds=config.fetch_seconds,
                max_bytes=config.max_fetch_bytes,
                allow_private=config.private_addresses,
            )
        else:
            fetch_dataset(hub_data(path), config.max_fetch_bytes)
