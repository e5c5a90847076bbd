"""The languages of a translation: mBART, mBART-50, NLLB and M2M100 with their tokenizers translate as transformers does, when
it is given the language's tokens; opus-mt models with several targets read the target's language.
"""

import json

import pytest
import torch
import transformers

import parakit
from parakit.checkpoints.import_export import import_model
from parakit.checkpoints.model_folder import save_model
from parakit.cli import predict
from parakit.common import UserError
from parakit.common.artifacts import Lineage
from parakit.data.examples import prepare_examples
from parakit.inference.generation.published_rules import lacks_target
from parakit.stages.config import FinetuneConfig
from parakit.stages.data import make_example_shards
from parakit.stages.finetuning import FinetuneJob
from parakit.tokens import Tokenizer
from parakit.tokens.tokenizer.languages import language_ids, language_tokens
from tests.checkpoints.conformance import reference_model
from tests.tokens.importers.test_tokens_importers_fairseq import train, write

SIZES = {
    **{"d_model": 16, "max_position_embeddings": 80, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
    **{"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "scale_embedding": False},
    **{"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24},
}
# class of the tokenizer: transformers' class, start of its decoder, languages, the source's ids around "A"
CASES = {
    "NllbTokenizer": ("M2M100", "eos", ("deu_Latn", "fra_Latn"), "lang A eos"),
    "M2M100Tokenizer": ("M2M100", "eos", ("de", "en"), "lang A eos"),
    "MBart50Tokenizer": ("MBart", "eos", ("de_DE", "fr_XX"), "lang A eos"),
    "MBartTokenizer": ("MBart", "language", ("en_XX", "ro_RO"), "A eos lang"),
}
TEXTS = ["The quick brown fox", "She sells shells by the sea shore"]
N_NEW = 12


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    models = {kind: train(kind) for kind in ("unigram", "bpe")}
    made = {}

    def make(kind):
        if kind not in made:
            folder, _ = write(tmp_path_factory.mktemp(kind), kind, models)
            tokenizer = Tokenizer.load(folder)
            prefix, start = CASES[kind][:2]
            started = {"decoder_start_token_id": tokenizer.eos_id if start == "eos" else None}
            config = getattr(transformers, f"{prefix}Config")(
                vocab_size=tokenizer.vocab_size, forced_eos_token_id=None, **SIZES, **started
            )
            reference = reference_model(
                getattr(transformers, f"{prefix}ForConditionalGeneration"), config, spread=0.5
            )
            with torch.no_grad():  # so that an output depends on what was read, and repeats no token
                reference.model.decoder.layer_norm.weight.normal_()
                which = "encoder_attn.out_proj.weight" if prefix == "MBart" else "attn.out_proj.weight"
                for name, parameter in reference.named_parameters():
                    parameter.mul_(4.0 if name.endswith(which) else 1.0)
            reference.save_pretrained(folder)
            made[kind] = folder, reference
        return made[kind]

    return make


@torch.no_grad()
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.long if kind.startswith("M2M") else ()) for kind in CASES],
)
def test_a_language_gives_the_tokens_of_transformers(kind, folder_of):
    (folder, reference), (_, start, languages, around) = folder_of(kind), CASES[kind]
    model = parakit.load(folder, device="cpu")
    tokenizer = model.tokenizer
    source, target = (language_ids(tokenizer)[language] for language in languages)
    chosen = {"decoder_start_token_id": target} if start == "language" else {"forced_bos_token_id": target}
    never = {tokenizer.pad_id, model.network.config.decoder_start_id} - {tokenizer.eos_id}
    for n_beams in (1, 3):
        wanted = []
        for text in TEXTS:
            parts = {"lang": [source], "A": tokenizer.encode(text), "eos": [tokenizer.eos_id]}
            ids = [token_id for part in around.split() for token_id in parts[part]]
            written = reference.generate(
                torch.tensor([ids]),
                num_beams=n_beams,
                max_new_tokens=N_NEW,
                suppress_tokens=sorted(never),
                **chosen,
            )
            wanted.append(tokenizer.decode(written[0].tolist()))
        settings = {"n_beams": n_beams, "max_new_tokens": N_NEW, "target_language": languages[1]}
        assert model.translate(TEXTS, source_language=languages[0], **settings) == wanted
    assert len(set(wanted)) == len(TEXTS)
    assert model.translate(TEXTS, **settings) != wanted or languages[0].startswith("en")


def test_predict_translates_into_the_language_of_its_flag(folder_of, capsys):
    folder, _ = folder_of("NllbTokenizer")
    common = [str(folder), "--text", *TEXTS, "--max-new-tokens", "12", "--json", "--device", "cpu"]
    found = []
    for flags in (["--target-language", "fra_Latn"], ["--target-language", "deu_Latn"]):
        assert predict.main([*common, *flags]) == 0
        printed = capsys.readouterr()
        assert "no --target-language" not in printed.err
        found.append([json.loads(line)["target"] for line in printed.out.splitlines()])
    assert predict.main(common) == 0
    assert "no --target-language" in capsys.readouterr().err
    model = parakit.load(folder, device="cpu")
    expected = model.translate(TEXTS, max_new_tokens=12, target_language="fra_Latn")
    assert found[0] == expected != found[1]
    with pytest.raises(UserError, match="'french' is none of the 3 languages") as caught:
        predict.main([*common, "--target-language", "french"])
    assert "fra_Latn" in caught.value.hint


def test_a_language_without_a_token_for_it_is_refused(folder_of):
    folder, _ = folder_of("NllbTokenizer")
    network = parakit.load(folder, device="cpu").network
    plain = type("Plain", (), {"control_ids": frozenset({1}), "token": lambda self, i: "</s>"})()
    with pytest.raises(UserError, match="no tokens for languages"):
        language_tokens(plain, network.config.decoder_start_id, None, "fr")


def test_opus_reads_the_targets_language_in_front_of_the_source(folder_of):
    folder, _ = folder_of("NllbTokenizer")
    network = parakit.load(folder, device="cpu").network
    strings = {5: ">>fra<<", 6: ">>sr_Latn<<", 7: "</s>"}
    opus = type("Opus", (), {"control_ids": frozenset(strings), "token": lambda self, i: strings[i]})()
    assert language_ids(opus) == {"fra": 5, "sr_Latn": 6}
    tokens = language_tokens(opus, network.config.decoder_start_id, None, ">>sr_Latn<<")
    assert (tokens.before_source, tokens.forced_bos_id, tokens.start_id) == (6, None, None)


@pytest.mark.parametrize("kind", ["NllbTokenizer", "MBartTokenizer"])
def test_tuning_reads_and_writes_the_languages_where_transformers_puts_them(kind, folder_of, tmp_path):
    (folder, _), (_, start, languages, around) = folder_of(kind), CASES[kind]
    texts = [f"{text} {n}" for text in TEXTS for n in range(8)]
    rows = [{"source": text, "target": text[::-1]} for text in texts]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_model(str(folder), tmp_path / "model")
    prepare_examples([str(tmp_path / "pairs.jsonl")], "translate", tmp_path / "pairs")
    make_example_shards(tmp_path / "pairs", tmp_path / "model", tmp_path / "shards", "encoder-decoder")

    def prepared(run, **settings):
        config = FinetuneConfig.parse({"task": "translate", "max_steps": 1, **settings}, "finetune")
        (tmp_path / run).mkdir()
        return FinetuneJob(tmp_path / "model", tmp_path / "shards", tmp_path / "work", config).prepare(
            tmp_path / run
        )

    with pytest.raises(UserError, match="translates into many languages") as caught:
        prepared("refused")
    assert "set it to one of its" in caught.value.hint
    setup = prepared("run", source_language=languages[0], target_language=languages[1]).setup
    tokenizer, batch = setup.tokenizer, setup.task.source.rows(0, 2)
    source, target = (language_ids(tokenizer)[language] for language in languages)
    expected = []
    for text in texts:
        parts = {"lang": [source], "A": tokenizer.encode(text), "eos": [tokenizer.eos_id]}
        begin = [] if start == "language" else [target]
        written = [*begin, *tokenizer.encode(text[::-1]), tokenizer.eos_id]
        expected.append(([token_id for part in around.split() for token_id in parts[part]], written))
    for row in range(2):
        found = batch.source_ids[row][batch.source_mask[row]], batch.target_ids[row][batch.loss_mask[row]]
        assert tuple(ids.tolist() for ids in found) in expected
        assert batch.input_ids[row][0] == (target if start == "language" else tokenizer.eos_id)
    save_model(setup.model, tokenizer, tmp_path / "tuned", Lineage("model"))
    tuned = parakit.load(tmp_path / "tuned", device="cpu")
    assert tuned.translate(TEXTS) == tuned.translate(TEXTS, target_language=languages[1])
    assert not lacks_target(tuned.network, tuned.tokenizer)
