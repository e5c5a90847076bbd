"""The page of attention: what it holds, that hostile text stays text, and that it is small."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib

import numpy as np
import pytest

from parakit.common.errors import UserError
from parakit.inspection.attention import AttentionMaps
from parakit.inspection.inputs import ModelInput
from parakit.reports.inspection import attention_page
from parakit.reports.inspection.attention_page import write_attention_page

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"};alert(1);//',
    "{{ 7 * 7 }}",
    "</div>",
)


def maps_of(n_tokens: int, n_layers: int = 2, n_heads: int = 3, kind="weights", tokens=None):
    generator = np.random.default_rng(0)
    weights = generator.random((n_layers, n_heads, n_tokens, n_tokens), np.float32) ** 8
    weights = np.tril(weights)
    weights /= weights.sum(-1, keepdims=True)
    tokens = tokens or tuple(f" w{i}" for i in range(n_tokens))
    named = {f"blocks.{layer}.attention": of_heads for layer, of_heads in enumerate(weights)}
    return AttentionMaps(ModelInput(tuple(range(n_tokens)), tokens), kind, named, {}), weights


def data_of(page: str) -> dict:
    """What the page's script reads."""
    (text,) = re.findall(r'<div id="data" hidden>(.*?)</div>', page, re.S)
    return json.loads(html.unescape(text))


def unpacked(group: dict) -> np.ndarray:
    """The weights that a group shows, (L, H, T, S)."""
    raw = np.frombuffer(zlib.decompress(base64.b64decode(group["data"])), np.uint8)
    shape = (len(group["layers"]), group["n_heads"], len(group["queries"]), group["n_kept"])
    weights = raw[: np.prod(shape)].reshape(shape).astype(np.float64) / 255 * group["scale"]
    if group["n_kept"] == len(group["keys"]):
        return weights
    keys = raw[np.prod(shape) :].view("<u2").reshape(shape)
    whole = np.zeros((*shape[:3], len(group["keys"])))
    for i in range(group["n_kept"]):
        at = keys[..., i : i + 1].astype(np.int64)
        found = np.take_along_axis(whole, at, -1)
        np.put_along_axis(whole, at, found + weights[..., i : i + 1], -1)
    return whole


def test_the_page_holds_every_weight_of_a_short_text(tmp_path):
    maps, weights = maps_of(12)
    page = write_attention_page(maps, tmp_path / "a.html", model="m").read_text()
    (group,) = data_of(page)["groups"]
    np.testing.assert_allclose(unpacked(group), weights, atol=0.5 / 255)
    assert (group["layers"], group["heads"], group["cross"]) == ([0, 1], [0, 1, 2], False)
    assert group["queries"] == list(maps.given.tokens)


def test_hostile_text_stays_text_and_only_the_pages_own_script_may_run(tmp_path):
    maps, _ = maps_of(len(HOSTILE), tokens=HOSTILE)
    path = write_attention_page(maps, tmp_path / "a.html", model=HOSTILE[0], specials=HOSTILE[:1])
    page = path.read_text()
    for text in HOSTILE[:3]:
        assert text not in page
    assert "{{ 7 * 7 }}" in page  # not computed
    assert data_of(page)["groups"][0]["queries"] == list(HOSTILE)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(scripts) == 1
    assert page.count("<script") == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', page)
    assert html.unescape(policy).startswith(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-"
    )
    assert f"'sha256-{digest}'" in html.unescape(policy)
    assert not re.search(r"(src|href)=", page.replace("src=x", ""))  # which is a token, as text
    for word in ("innerHTML", "insertAdjacent", "eval(", "Function(", "document.write", "fetch("):
        assert word not in scripts[0]


# fewer weights than keys from the start; all of them, until packing shows that they are too many
@pytest.mark.parametrize(("kind", "n_tokens", "limit"), [("weights", 64, 20_000), ("norms", 40, 9_700)])
def test_a_long_text_keeps_the_largest_weights_and_stays_small(tmp_path, monkeypatch, kind, n_tokens, limit):
    monkeypatch.setattr(attention_page, "MAX_DATA_BYTES", limit)
    maps, weights = maps_of(n_tokens, kind=kind)
    if kind == "norms":  # any bytes, which do not compress
        weights = np.random.default_rng(1).random(weights.shape, np.float32)
        maps = AttentionMaps(maps.given, kind, dict(zip(maps.maps, weights, strict=True)), {})
    page = write_attention_page(maps, tmp_path / "a.html", model="m").read_text()
    (group,) = data_of(page)["groups"]
    assert len(group["data"]) <= limit
    assert 1 <= group["n_kept"] < n_tokens
    shown = unpacked(group)
    kept = shown > 0
    np.testing.assert_allclose(shown[kept], weights[kept], atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(shown.max(-1), weights.max(-1), atol=0.5 / 255 + 1e-6)
    assert f"Each row keeps its {group['n_kept']} largest" in page
    monkeypatch.setattr(attention_page, "MAX_DATA_BYTES", 100)
    with pytest.raises(UserError, match=r"(?s)\d+ rows of attention do not fit on a page .* --layer"):
        write_attention_page(maps, tmp_path / "b.html", model="m")
    assert not (tmp_path / "b.html").exists()


def test_both_sides_of_an_encoder_decoder_are_groups_and_a_prefix_is_named(tmp_path):
    given = ModelInput((0, 1), (" a", " b"), (), (5, 6, 7), (" x", " y", " z"))
    generator = np.random.default_rng(0)
    shapes = {
        "encoder.blocks.0.attention": (3, 3),
        "decoder.blocks.0.attention": (2, 2),
        "decoder.blocks.0.cross_attention": (2, 3),
    }
    maps = AttentionMaps(
        given, "weights", {n: generator.random((2, *s)).astype(np.float32) for n, s in shapes.items()}, {}
    )
    groups = data_of(write_attention_page(maps, tmp_path / "a.html", model="m").read_text())["groups"]
    assert [one["cross"] for one in groups] == [False, False, True]
    assert groups[2]["queries"] == [" a", " b"]
    assert groups[2]["keys"] == [" x", " y", " z"]
    prefixed = AttentionMaps(
        ModelInput((0, 1), (" a", " b")),
        "weights",
        {"blocks.0.attention": np.ones((1, 2, 4), np.float32) / 4},
        {},
    )
    (group,) = data_of(write_attention_page(prefixed, tmp_path / "b.html", model="m").read_text())["groups"]
    assert (group["n_prefix"], group["keys"][:2]) == (2, ["[prefix 1]", "[prefix 2]"])


def test_lengths_are_shown_in_units_of_the_greatest(tmp_path):
    maps, weights = maps_of(6, kind="norms")
    many = AttentionMaps(maps.given, "norms", {name: 7 * one for name, one in maps.maps.items()}, {})
    (group,) = data_of(write_attention_page(many, tmp_path / "a.html", model="m").read_text())["groups"]
    np.testing.assert_allclose(unpacked(group), 7 * weights, atol=7 * 0.5 / 255 + 1e-6)
    assert group["unit"] == "length"
