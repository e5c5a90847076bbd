"""Fetch what the paths of a corpus name on the network, where the settings allow it."""

from __future__ import annotations

from parakit.data.config import TextConfig
from parakit.data.fetching.hub_datasets import fetch_dataset
from parakit.data.fetching.locations import URLS, hub_data, is_remote, list_file
from parakit.data.fetching.url_list import fetch_list


def fetch_named(config: TextConfig) -> None:
    """Save what `urls:` and `hub:` paths of `config` name and is not saved yet; nothing without `config.fetch`."""
    for path in dict.fromkeys((*config.validation_paths, *config.paths)):
        if not config.fetch or not is_remote(path):
            continue
        if path.startswith(URLS):
            fetch_list(
                list_file(path),
                seconds=config.fetch_seconds,
                max_bytes=config.max_fetch_bytes,
                allow_private=config.private_addresses,
            )
        else:
            fetch_dataset(hub_data(path), config.max_fetch_bytes)
