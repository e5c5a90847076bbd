"""The real 135M model from its GGUF file: weights, ids and greedy tokens, against transformers and llama.cpp."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch

from benchmarks.speed.peers.peers import PEERS_DIR
from parakit.checkpoints import load_model
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import generate_ids
from parakit.tokens import Tokenizer
from tests.checkpoints.conformance import tensors_of

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]
N_TOKENS = 24
TEXTS = [
    *(
        "a  1",
        "x = 12345;  y=  678",
        "  3 4",
        "\u0661\u0662\u0663 \u00bd \u2167",
        "don't I'LL",
        "$1,234.56  \n\n\t 7",
    ),
    *(
        "",
        " ",
        "\n\n",
        "\u00e9e\u0301 \u4f60\u597d \U0001f600\u200d",
        "\x00\x7f\xa0\u3000",
        "<|im_start|>user",
    ),
]


@pytest.fixture(scope="module")
def texts(book: str) -> list[str]:
    """A few hundred texts of all lengths, and some that tokenizers get wrong."""
    return TEXTS + [book[i : i + 20 + i % 371] for i in range(0, 60_000, 200)]


def test_weights_are_those_that_transformers_dequantizes(
    imported_smollm2: Path, published_model: Callable[[str], Path]
) -> None:
    file = published_model("smollm2")
    peer = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    expected = {name: tensor for name, tensor in peer.state_dict().items() if name != "lm_head.weight"}
    found = tensors_of(imported_smollm2)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor.view(torch.int32), expected[name].view(torch.int32)), name


def test_ids_are_transformers_where_it_splits_digits(
    imported_smollm2: Path, published_model: Callable[[str], Path], texts: list[str]
) -> None:
    """transformers drops the step of `smollm` that splits digits when it converts the file's tokenizer, so it differs
    where spaces stand before a digit; with that step put back all ids are equal.
    """
    file = published_model("smollm2")
    peer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    mine = Tokenizer.load(imported_smollm2)
    plain = [text for text in texts if "<|" not in text and not any(char.isnumeric() for char in text)]
    assert len(plain) > 100
    for text in plain:
        assert mine.encode(text) == peer.encode(text, add_special_tokens=False), text
    from tokenizers import pre_tokenizers

    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    peer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    for text in texts:
        if "<|" not in text:
            assert mine.encode(text) == peer.encode(text, add_special_tokens=False), text


@pytest.fixture(scope="module")
def ask_llama_cpp(published_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory):
    """A function that sends a job to llama.cpp, with the model's dequantized weights in a float32 file: on the quantized
    file it would round activations to 8 bits.
    """
    python = PEERS_DIR / "llama" / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"llama.cpp is not at {python} (run python -m benchmarks.speed.peers.peers llama)")
    file = tmp_path_factory.mktemp("llama") / "f32.gguf"
    write_float32(published_model("smollm2"), file)

    def run(**job):
        text = json.dumps({"file": str(file), "texts": [], "prompts": [], "n": 0, "stop": []} | job)
        side = Path(__file__).with_name("llama_cpp_side.py")
        done = subprocess.run(
            [python, side], input=text, capture_output=True, text=True, check=True, timeout=1800
        )
        return json.loads(done.stdout.splitlines()[-1])

    yield run
    file.unlink()


def write_float32(source: Path, target: Path) -> None:
    """The same file with every tensor dequantized by the `gguf` package."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            is_array = field.types[0] == gguf.GGUFValueType.ARRAY
            writer.add_key_value(
                name, field.contents(), field.types[0], field.types[-1] if is_array else None
            )
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_ids_are_llama_cpps(imported_smollm2: Path, ask_llama_cpp, texts: list[str]) -> None:
    mine = Tokenizer.load(imported_smollm2)
    for text, ids in zip(texts, ask_llama_cpp(texts=texts)["ids"], strict=True):
        assert mine.encode(text) == ids, text


def test_greedy_tokens_are_llama_cpps(imported_smollm2: Path, ask_llama_cpp) -> None:
    model, tokenizer = load_model(imported_smollm2)
    assert tokenizer is not None
    chat = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    backend = transformers.AutoTokenizer.from_pretrained(imported_smollm2)
    starts = ("The capital of France is", "Once upon a time", "def fib(n):")
    prompts = [backend.encode(chat), *map(tokenizer.encode, starts)]
    config = SamplingConfig(temperature=0.0, max_new_tokens=N_TOKENS)
    mine = [generate_ids(model, [prompt], config)[0] for prompt in prompts]
    stop = [tokenizer.eos_id, 0]
    cut = [ids[: min([ids.index(i) for i in stop if i in ids], default=N_TOKENS)] for ids in mine]
    assert cut == ask_llama_cpp(prompts=prompts, n=N_TOKENS, stop=stop)["greedy"]
    assert tokenizer.decode(cut[0]) == "The capital of France is Paris."
