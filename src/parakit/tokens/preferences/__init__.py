"""Rankings as ids: encoded through the chat template, and handed out in batches that are a pure function of seed and
row.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "EncodedRankings": "encoding",
        "PreferenceSource": "sources",
        "RankingBatch": "batches",
        "completion_ids": "encoding",
        "encode_rankings": "encoding",
    },
)

__all__ = ["EncodedRankings", "PreferenceSource", "RankingBatch", "completion_ids", "encode_rankings"]
