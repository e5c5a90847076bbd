"""What a model would see: counts against the corpus's documents, seeded pieces, secrets counted and never shown."""

import json
import re
from pathlib import Path

import pytest

from parakit.common.errors import CorruptArtifact
from parakit.data import iter_corpus, overview
from parakit.data.config import TextConfig
from parakit.data.corpus import prepare_corpus
from parakit.data.overview import corpus_overview
from parakit.data.personal.secrets import find_secrets
from parakit.data.personal.sensitive import mask
from tests.sample_text import sentences

PLANTED = {
    "password": "password: hunter22x",
    "access_key": "AKIA" + "ABCDEFGH12345678",
    "credentials_in_url": "postgres://admin:s3cret@db.example.org/main",
    "web_token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJlMTIz",
    "private_key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
}
HARMLESS = (
    "The password is never shown. Password: required. See https://example.org:8080/a@b and key=value; "
    "pwd: none; BEGIN PUBLIC KEY; ask-a-question-about-something-long"
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(40):
        secret = list(PLANTED.values())[i % 5] if i < 10 else ""
        (folder / f"{i}.txt").write_text(f"{sentences(i, 8 * (1 + i % 3))}\n{secret}\n")
    return prepare_corpus(
        TextConfig(paths=(str(folder),), validation_fraction=0.2, test_fraction=0.2), tmp_path / "c"
    )


def test_counts_are_those_of_the_documents_and_no_secret_is_shown(corpus: Path) -> None:
    found = corpus_overview(corpus)
    kinds: dict[str, int] = {}
    for name, split in found["splits"].items():
        documents = list(iter_corpus(corpus, name))
        assert split["examined"] == {
            "documents": len(documents),
            "bytes": sum(one.n_bytes for one in documents),
            "whole": True,
        }
        for row in split["lengths"]:
            assert row["documents"] == sum(row["from"] <= len(one.text) < row["to"] for one in documents)
        assert sum(row["documents"] for row in split["lengths"]) == len(documents)
        assert len(split["pieces"]) == min(10, len(documents))
        assert len({piece["id"] for piece in split["pieces"]}) == len(split["pieces"])
        for kind, n in split["sensitive"].items():
            kinds[kind] = kinds.get(kind, 0) + n
    assert {kind: kinds.get(kind) for kind in PLANTED} == dict.fromkeys(PLANTED, 2)
    shown = json.dumps(found)
    for secret in PLANTED.values():
        assert secret not in shown
    assert found["sources"]["largest"][0]["bytes"] > 0


def test_pieces_follow_from_the_seed(corpus: Path) -> None:
    def pieces(seed: int) -> list[object]:
        return corpus_overview(corpus, seed)["splits"]["train"]["pieces"]

    assert pieces(1) == pieces(1) != pieces(2)


def test_a_large_split_is_sampled_evenly(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "WHOLE_BYTES", 100)
    monkeypatch.setattr(overview, "N_SAMPLED", 12)
    train = corpus_overview(corpus)["splits"]["train"]
    assert not train["examined"]["whole"]
    assert 6 <= train["examined"]["documents"] <= 12
    known = {one.digest[:16] for one in iter_corpus(corpus, "train")}
    assert {piece["id"] for piece in train["pieces"]} <= known


def test_a_damaged_row_is_named(corpus: Path) -> None:
    rows = corpus / "train.jsonl"
    rows.write_bytes(b"[" + rows.read_bytes()[1:])  # of the same size
    with pytest.raises(CorruptArtifact, match=r"train\.jsonl, row 1:"):
        corpus_overview(corpus)


@pytest.mark.parametrize(("kind", "text"), PLANTED.items())
def test_a_secret_is_found_by_its_form(kind: str, text: str) -> None:
    around = f"before\n{text}\nafter"
    assert kind in {found for found, _, _ in find_secrets(around)}
    masked = mask(around)
    assert f"[{kind.upper()}]" in masked
    assert re.match(r"before\n.*\nafter$", masked, re.DOTALL)


def test_talk_of_passwords_is_no_password() -> None:
    assert list(find_secrets(HARMLESS)) == []
