"""An import that fails names what is wrong and the way out, and leaves nothing behind."""

import json

import pytest

from parakit.checkpoints import load_model
from parakit.checkpoints.import_export import import_model
from parakit.common import UserError
from parakit.common.artifacts import open_artifact
from tests.checkpoints.architectures import published_folders as folders

LLAMA, BERT = "HuggingFaceTB/SmolLM2-135M-Instruct", "google-bert/bert-base-uncased"


@pytest.fixture
def folder(tmp_path):
    """A published folder; `change(file, **keys)` rewrites one of its JSON files."""
    path = folders.published_folder(tmp_path / "published", LLAMA, folders.SMOLLM2)

    def change(file="config.json", **keys):
        old = json.loads((path / file).read_text()) if (path / file).is_file() else {}
        (path / file).write_text(json.dumps(old | keys))
        return path

    return change


@pytest.mark.parametrize(
    ("file", "keys", "message", "hint"),
    [
        ("config.json", {"hidden_size": 24}, "has shape .* asks for", "different models"),
        ("config.json", {"num_hidden_layers": 3}, "lack the tensor 'model.layers.2", "fetch it again"),
        ("config.json", {"num_hidden_layers": 1}, "holds a tensor 'model.layers.1", "another model"),
        ("config.json", {"vocab_size": 200}, r"has shape \(320, 16\)", "different models"),
        ("config.json", {"architectures": ["LlamaModel"], "model_type": "bert"}, "architectures", "BertFor"),
        ("generation_config.json", {"top_p": 7}, "`top_p` is 7", "correct the value"),
        ("generation_config.json", {"eos_token_id": "</s>"}, "`eos_token_id` is '</s>'", "fetch the file"),
        ("tokenizer.json", {"model": {"type": "BPE"}}, "tokenizer.json: not readable", "copy"),
        ("config.json", {"auto_map": {"AutoModel": "m.M"}}, "auto_map", "--accept-config auto_map"),
    ],
)
def test_a_folder_that_is_not_what_it_says_is_refused(folder, tmp_path, file, keys, message, hint):
    path = folder(file, **keys)
    with pytest.raises(UserError, match=message) as caught:
        import_model(str(path), tmp_path / "out")
    assert hint in caught.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["published"]


def test_a_tokenizer_that_is_larger_than_the_embedding_is_refused(tmp_path):
    path = folders.published_folder(tmp_path / "published", BERT, folders.SMOLLM2, vocab_size=250)
    with pytest.raises(UserError, match=r"tokenizer has \d+ tokens, .* embedding 250 rows") as caught:
        import_model(str(path), tmp_path / "out")
    assert "different models" in caught.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["published"]


def test_weights_of_another_model_are_refused(folder, tmp_path):
    path = folder()
    other = folders.published_folder(tmp_path / "other", BERT)
    (path / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match="lack the tensor"):
        import_model(str(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_template_that_fails_is_named_and_the_model_still_continues_texts(folder, tmp_path):
    path = folder("tokenizer_config.json", chat_template="{{ messages[0]['content'].no_such() }}")
    import_model(str(path), tmp_path / "out")
    (note,) = open_artifact(tmp_path / "out").lineage["result"]["notes"]
    assert "the chat template fails on a short conversation" in note
    load_model(tmp_path / "out")


def test_what_an_import_leaves_out_is_named(folder, tmp_path):
    path = folder(rope_scaling={"type": "dynamic", "factor": 2.0})
    (path / "vocab.json").write_text("{}")
    (path / "data_config.json").write_text("{}")
    (path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    folder("generation_config.json", eta_cutoff=0.5)
    import_model(str(path), tmp_path / "out")
    notes = open_artifact(tmp_path / "out").lineage["result"]["notes"]
    assert "of up to 40 tokens" in notes[0]
    assert "keeps but does not use: eta_cutoff" in notes[1]
    assert notes[2:] == ["replaced by tokenizer.json: vocab.json", "not kept: data_config.json"]
    assert (tmp_path / "out" / "README.md").read_text() == (path / "README.md").read_text()


def test_code_that_a_config_names_is_accepted_by_name_and_never_runs(folder, tmp_path):
    path = folder(auto_map={"AutoModel": "evil.Evil"})
    import_model(str(path), tmp_path / "out", accept_config=["auto_map"])
    lineage = open_artifact(tmp_path / "out").lineage
    assert lineage["config"]["accepted_config"] == {"auto_map": {"AutoModel": "evil.Evil"}}
    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())
