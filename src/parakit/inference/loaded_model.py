"""`Model`: a loaded model folder with all that it can do. The Python API returns it, and the commands use it.

A request that the model cannot serve is a `UserError` that lists what it can do. Text in, text out: ids, batches and
devices stay inside. `network` is the plain `torch.nn.Module`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Unpack, overload

import numpy as np
import torch

from parakit.checkpoints.adapters import load_adapter
from parakit.checkpoints.generation_settings import GENERATION
from parakit.checkpoints.loading import load_model
from parakit.common.devices import pick_device, pick_dtype
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.data.conversations.conversation import Message
from parakit.inference.capabilities import Capability, ModelKind, model_kind, require_capability
from parakit.inference.chat import ChatSession, Prepare
from parakit.inference.config import (
    BeamConfig,
    BeamSettings,
    ChatConfig,
    DecodingMethod,
    DecodingSettings,
    SamplingConfig,
    SamplingSettings,
    decoding_method,
)
from parakit.inference.folder_settings import is_chat_tuned, read_sampling_settings, warn_prefix_lm
from parakit.inference.generation.drafts import Speculation, take_speculation
from parakit.inference.generation.published_rules import (
    beam_settings,
    not_honoured,
    published_settings_of,
    search_settings,
)
from parakit.inference.generation.seq_to_seq import translate
from parakit.inference.generation.text import Completion, CompletionStream, Prompt, complete, stream
from parakit.inference.prediction.answers import MAX_ANSWER_LEN, Answer, answer
from parakit.inference.prediction.batches import Text
from parakit.inference.prediction.classification import (
    Classification,
    LabelSet,
    classify,
    multi_label,
    regress,
    tag,
)
from parakit.inference.prediction.embeddings import embed
from parakit.inference.prediction.fill_mask import PLACEHOLDER, MaskedPosition, fill_masks
from parakit.inference.scoring import input_ids_of, log_likelihoods, logits_of
from parakit.model import heads
from parakit.model.adapters import AdapterSet
from parakit.model.config import EmbedderPooling
from parakit.tokens.config import TooLong
from parakit.tokens.tokenizer.tokenizer import Tokenizer

Item = TypeVar("Item")
Network = TypeVar("Network", bound=torch.nn.Module)


class Model:
    """A model, its tokenizer, and its published sampling settings."""

    def __init__(
        self,
        network: heads.TransformerModel,
        tokenizer: Tokenizer | None = None,
        *,
        path: str | Path = "model",
        chat_tuned: bool = False,
        published: Mapping[str, Any] | None = None,
        adapters: AdapterSet | None = None,
    ) -> None:
        self.network, self.path, self.chat_tuned = network, Path(path), chat_tuned
        self.published: dict[str, Any] = dict(published or {})
        """The publisher's settings of sampling, beams or contrastive search; defaults of the methods that generate."""
        self.adapters = adapters
        self._tokenizer = tokenizer

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        adapters: Sequence[str | Path] = (),
    ) -> Model:
        """Load a model folder, or the folder of an adapter with its base.

        `device`: auto, cpu, cuda, cuda:1, mps; `dtype`: auto, float32, bfloat16, float16, float64. `adapters`: folders
        of further adapters; the first is switched on, `model.adapters.use(NAME)` switches. Raises `UserError` for a
        folder that holds no model or is damaged.
        """
        target = pick_device(device)
        network, tokenizer = load_model(path, target, pick_dtype(dtype, target))
        warn_prefix_lm(path)
        return cls(
            network,
            tokenizer,
            path=path,
            chat_tuned=any(map(is_chat_tuned, [path, *adapters])),
            published=_published_settings(network, path),
            adapters=_attach_adapters(network, path, adapters) if adapters else None,
        )

    def __repr__(self) -> str:
        n = self.network.config.n_params()["total"]
        return f"<parakit.Model {self.path}: {self.kind.description}, {n:,} parameters>"

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer; `UserError` where the folder has none."""
        if self._tokenizer is None:
            raise UserError(
                f"{self.path}: has no tokenizer, so it cannot read text", "put the model's tokenizer there"
            )
        return self._tokenizer

    @property
    def kind(self) -> ModelKind:
        """What the model is, in words, and its capabilities."""
        kind = model_kind(self.network)
        assert kind is not None
        return kind

    def sampling_config(self, **sampling: Unpack[SamplingSettings]) -> SamplingConfig:
        """These settings over the published ones over the defaults. Unknown keys and values are a `UserError`."""
        published = {k: v for k, v in self.published.items() if k in SamplingConfig.model_fields}
        return SamplingConfig.parse({**published, **sampling}, "sampling")

    @overload
    def generate(self, prompt: str, **settings: Unpack[DecodingSettings]) -> str: ...
    @overload
    def generate(self, prompt: list[str], **settings: Unpack[DecodingSettings]) -> list[str]: ...
    def generate(self, prompt: str | list[str], **settings: Unpack[DecodingSettings]) -> str | list[str]:
        """Continue a text, or each of several; returns the new text only.

        `settings`: those of sampling (max_new_tokens, temperature (0 is greedy), top_k, top_p, min_p, typical_p, stop,
        seed), or n_beams for beam search, or penalty_alpha for contrastive search; and penalties, logit_bias,
        no_repeat_ngram_size for each. Raises `UserError` for an empty text and for one over the context window.
        """
        several = [prompt] if isinstance(prompt, str) else prompt
        texts = [done.text for done in self._complete(several, settings)]
        return texts[0] if isinstance(prompt, str) else texts

    def chat(
        self, messages: Sequence[Message | Mapping[str, str]], **settings: Unpack[DecodingSettings]
    ) -> str:
        """Answer a conversation: mappings with `role` (system, user, assistant, tool) and `content`.

        The model's chat template compiles it, as in training. Settings and errors as for `generate`.
        """
        return self._complete([messages], settings)[0].text

    def completions(self, prompt: Prompt, **settings: Unpack[DecodingSettings]) -> list[Completion]:
        """`generate` (of a text) or `chat` (of messages), with all that is known: `n` completions of one reading of the
        prompt, their ids, finish reasons, and with `log_probabilities` those of their tokens; all beams of a search, best
        first, with their scores.
        """
        network = self._network(heads.LanguageModel, "generate")
        drafts, settings = take_speculation(settings, self)
        return complete(network, self.tokenizer, [prompt], self._method(settings), speculation=drafts)[0]

    def _complete(self, prompts: Sequence[Prompt], settings: DecodingSettings) -> list[Completion]:
        """One completion of each prompt, for its text only."""
        drafts, settings = take_speculation(settings, self)
        network, config = self._network(heads.LanguageModel, "generate"), self._method(settings)
        if isinstance(config, SamplingConfig) and (config.n > 1 or config.log_probabilities is not None):
            name = "n" if config.n > 1 else "log_probabilities"
            raise UserError(f"{name} is set, and only a text is returned here", "take `completions`")
        done = complete(network, self.tokenizer, prompts, config, speculation=drafts)
        return [some[0] for some in done]

    def _method(self, settings: DecodingSettings) -> DecodingMethod:
        return decoding_method(settings, self.published, "generation")

    def stream(self, prompt: Prompt, **sampling: Unpack[SamplingSettings]) -> CompletionStream:
        """`generate` (of a text) or `chat` (of messages) piece by piece, sampled or greedy: iterate for the text.

        The stream's `completion` then has the ids, the finish reason and the speed.
        """
        network = self._network(heads.LanguageModel, "generate")
        drafts, sampling = take_speculation(sampling, self)
        return stream(network, self.tokenizer, prompt, self.sampling_config(**sampling), speculation=drafts)

    def chat_session(
        self,
        config: ChatConfig | None = None,
        drafts: Speculation | None = None,
        prepare: Prepare | None = None,
    ) -> ChatSession:
        """A conversation with history, as `parakit chat` holds it. `prepare`: what is sent in place of it."""
        network = self._network(heads.LanguageModel, "generate")
        return ChatSession(network, self.tokenizer, config, self.adapters, drafts, prepare)

    def translate(
        self,
        texts: Sequence[str],
        *,
        too_long: TooLong = "refuse",
        source_language: str | None = None,
        target_language: str | None = None,
        **beams: Unpack[BeamSettings],
    ) -> list[str]:
        """The target of each source: greedy, or the best of a beam search with `n_beams` > 1 (see `BeamConfig`).

        What is not set: as the publisher set it, else greedy with the defaults of `BeamConfig`. A source over the encoder's
        context window is a `UserError`, or is shortened with `too_long="truncate"`. Languages are those of the tokenizer's
        tokens (`fr_XX`, `fra_Latn`, `fr`): see `generation.languages`.
        """
        network = self._network(heads.SequenceToSequence, "translate")
        groups = ("n_beam_groups", "diversity_penalty") if "n_beams" in beams else ()  # of the publisher's
        published = {name: value for name, value in self.published.items() if name not in groups}
        config = BeamConfig.parse({"n_beams": 1, **published, **beams}, "translate")
        return translate(
            network,
            self.tokenizer,
            _several(texts),
            config,
            too_long=too_long,
            source_language=source_language,
            target_language=target_language,
        )

    @overload
    def fill_mask(
        self, text: str, *, n_candidates: int = 5, placeholder: str = PLACEHOLDER
    ) -> list[MaskedPosition]: ...
    @overload
    def fill_mask(
        self, text: list[str], *, n_candidates: int = 5, placeholder: str = PLACEHOLDER
    ) -> list[list[MaskedPosition]]: ...
    def fill_mask(
        self, text: str | list[str], *, n_candidates: int = 5, placeholder: str = PLACEHOLDER
    ) -> list[MaskedPosition] | list[list[MaskedPosition]]:
        """The masked positions of a text, or of each of several, with the likeliest tokens and their probabilities.

        `placeholder` marks a mask in the text; it is replaced by the MASK id.
        """
        texts = [text] if isinstance(text, str) else text
        network = self._network(heads.MaskedLanguageModel, "fill_mask")
        filled = fill_masks(
            network, self.tokenizer, texts, placeholder=placeholder, n_candidates=n_candidates
        )
        return filled[0] if isinstance(text, str) else filled

    def classify(self, texts: Sequence[Text], *, too_long: TooLong = "refuse") -> list[Classification]:
        """The label of each text, or pair of texts (a tuple), with the probability of every label."""
        network = self._network(heads.Classifier, "classify")
        return classify(network, self.tokenizer, _several(texts), too_long=too_long)

    def multi_label(
        self, texts: Sequence[Text], *, threshold: float = 0.5, too_long: TooLong = "refuse"
    ) -> list[LabelSet]:
        """The labels of each text, or pair of texts (a tuple), whose probability is `threshold` or more."""
        network = self._network(heads.Classifier, "multi_label")
        return multi_label(network, self.tokenizer, _several(texts), threshold=threshold, too_long=too_long)

    def answer(
        self,
        questions: Sequence[tuple[str, str]],
        *,
        allow_none: bool = True,
        max_answer_len: int = MAX_ANSWER_LEN,
    ) -> list[Answer]:
        """The passage that answers each (question, context); empty where `allow_none` and none is likelier than any."""
        network = self._network(heads.Classifier, "answer")
        return answer(
            network,
            self.tokenizer,
            _several(questions),
            allow_none=allow_none,
            max_answer_len=max_answer_len,
        )

    def tag(
        self, sentences: Sequence[Sequence[str]], *, too_long: TooLong = "refuse"
    ) -> list[list[Classification | None]]:
        """The label of each word of each sentence (a list of words); None for a word without tokens."""
        network = self._network(heads.Classifier, "tag")
        return tag(network, self.tokenizer, [_several(words) for words in sentences], too_long=too_long)

    def regress(self, texts: Sequence[Text], *, too_long: TooLong = "refuse") -> list[float]:
        """The score of each text, or pair of texts (a tuple)."""
        network = self._network(heads.Classifier, "regress")
        return regress(network, self.tokenizer, _several(texts), too_long=too_long)

    def embed(
        self,
        texts: Sequence[Text],
        *,
        pooling: EmbedderPooling | None = None,
        normalize: bool | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        too_long: TooLong | None = None,
    ) -> np.ndarray:
        """One vector per text, (N, width) float32, of length 1 unless `normalize=False` or an embedder's own are not.

        `pooling` (mean, cls, last, max, mean_sqrt_len, weighted_mean) defaults to the embedder's own, else to mean.
        `prompt` is put before every text, or the embedder's prompt of the name `prompt_name`. Texts over an embedder's
        `max_seq_len` are cut there; others that are too long are refused, or cut with `too_long="truncate"`.
        """
        require_capability(self.network, "embed")
        assert not isinstance(self.network, heads.ActorCritic | heads.Classifier | heads.RewardModel)
        return embed(
            self.network,
            self.tokenizer,
            _several(texts),
            pooling=pooling,
            normalize=normalize,
            prompt=prompt,
            prompt_name=prompt_name,
            too_long=too_long,
        )

    def logits(self, text: str | Sequence[int]) -> torch.Tensor:
        """Logits (T, vocab_size) of a text, or of token ids as they are, in float32 or better.

        A text gets the special tokens that its tokenizer adds (`text_boundaries`), and T counts them. Row t of a
        decoder predicts token t + 1, row t of an encoder token t.
        """
        require_capability(self.network, "logits")
        assert isinstance(self.network, heads.LanguageModel | heads.MaskedLanguageModel)
        ids = input_ids_of(self.network, self.tokenizer, text) if isinstance(text, str) else text
        return logits_of(self.network, ids)

    @overload
    def log_likelihood(self, prompt: Prompt, completion: str) -> float: ...
    @overload
    def log_likelihood(self, prompt: Prompt, completion: list[str]) -> list[float]: ...
    def log_likelihood(self, prompt: Prompt, completion: str | list[str]) -> float | list[float]:
        """The log-probability (nats) of a completion, or of each of several, after a text or conversation.

        The sum over the completion's tokens: those of its text encoded by itself, behind the prompt's tokens and what
        the tokenizer puts before a text. No token spans the seam, so write the space that belongs to a word with it:
        ("The sky is", " blue"). EOS is not part of the sum.
        """
        network = self._network(heads.LanguageModel, "log_likelihood")
        completions = [completion] if isinstance(completion, str) else completion
        sums = log_likelihoods(network, self.tokenizer, [(prompt, text) for text in completions])
        return sums[0] if isinstance(completion, str) else sums

    def _network(self, head: type[Network], capability: Capability) -> Network:
        """`network`, whose class is `head`; `UserError` where the model has not this capability."""
        require_capability(self.network, capability)
        assert isinstance(self.network, head)
        return self.network


def _published_settings(network: heads.TransformerModel, path: str | Path) -> dict[str, Any]:
    """The publisher's settings of sampling, or of beams for an encoder-decoder; prints those that are not followed."""
    is_pair = isinstance(network, heads.SequenceToSequence)
    if not is_pair and not isinstance(network, heads.LanguageModel):
        return {}
    settings = published_settings_of(network)
    if keys := not_honoured(settings, is_pair):
        log(f"{path}: generation settings that Parakit does not follow: {', '.join(keys)}")
    if is_pair:
        return beam_settings(settings)
    published = read_sampling_settings(path) | search_settings(settings)
    decoding_method({}, published, f"{path}: {GENERATION}")  # raises
    return published


def _attach_adapters(
    network: heads.TransformerModel, base: str | Path, folders: Sequence[str | Path]
) -> AdapterSet:
    """The adapters of these folders on one base, named after their folders; the first is on."""
    adapters, device = AdapterSet(network), next(network.parameters()).device
    for folder in folders:
        name = Path(folder).resolve().name
        adapters.add(name, load_adapter(folder, network, base))
        adapters.use(name)
        network.to(device)
    adapters.use(adapters.names[0])
    return adapters


def _several(texts: Sequence[Item]) -> Sequence[Item]:
    """The texts; a single string, whose letters would each count as a text, is a `UserError`."""
    if isinstance(texts, str):
        raise UserError(f"one string in the place of several: {texts[:40]!r}", "give a list: [text]")
    return texts
