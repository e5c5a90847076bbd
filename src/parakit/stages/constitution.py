"""Constitutional training (Bai et al. 2022): fine-tunes a model on critiqued and revised answers of its own.

The steps: fine-tuning on examples of critiques (optional), answers to hostile and harmless questions, critiques and
revisions, fine-tuning on the revisions with helpful conversations mixed in, and (optional) pairs of answers that the
critic compares, for DPO. Each is cached in the run directory, so that an interrupted run resumes. All texts are written
to a folder of kind "constitution" next to the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from parakit.alignment.config import (
    ConstitutionConfig,
    CriticModel,
    DPOConfig,
    PreferenceStep,
    PrimerAttacks,
)
from parakit.alignment.constitution.ai_feedback import (
    PREFERRED,
    ResponsePair,
    check_valid_comparisons,
    compare_responses,
)
from parakit.alignment.constitution.critique_revision import (
    Response,
    check_valid_fraction,
    is_trainable,
    outcomes,
    revise,
)
from parakit.alignment.constitution.principles import (
    PRIMER,
    PrincipleConfig,
    load_principles,
    principles_file,
)
from parakit.alignment.jsonl_cache import CachedRow, cached_map
from parakit.alignment.red_team.readers import read_attacks
from parakit.common.artifacts import LINEAGE, Lineage, writing_artifact
from parakit.common.choices import part_of
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, sha256_file, write_json_atomic, write_text_atomic
from parakit.common.progress import log
from parakit.common.seeds import derive_seed, rng
from parakit.common.settings import canonical_json
from parakit.data.conversations.conversation import Conversation, Message, write_conversations
from parakit.data.conversations.sets import iter_conversations, prepare_conversations
from parakit.data.preferences.sets import prepare_preferences
from parakit.inference.chat_models.chat_model import ChatModel
from parakit.inference.chat_models.loading import open_chat_model
from parakit.inference.chat_models.local import LocalChatModel
from parakit.primer.attacks.attack import Attack
from parakit.primer.attacks.suites import primer_attacks
from parakit.primer.critique_sft import critique_conversations
from parakit.stages.alignment import AlignJob
from parakit.stages.comparison.measuring import comparison_settings
from parakit.stages.config import FinetuneConfig, chat_finetune_config
from parakit.stages.data import make_conversation_shards
from parakit.stages.finetuning import FinetuneJob
from parakit.stages.job import run_job
from parakit.stages.run_dir import report_other_runs, run_directory
from parakit.training.pace import TimeBudget

HOSTILE = ("direct", "jailbreak", "encoding", "role_play", "injection", "made_up")
# harmless questions in the same wordings for each question of a hostile category, or the model refuses everything
N_HARMLESS = 4
MAX_NEW_TOKENS, TEMPERATURE = 80, 1.0
CHUNK_SIZE = 64  # questions that are answered and cached together
# Of the time that is left when a step begins, where it is given. The last training gets what is left.
ANSWERS_SHARE, REVISIONS_SHARE, TUNING_SHARE, PAIRS_SHARE, PREFERENCES_SHARE = 0.2, 0.4, 0.4, 0.3, 0.4

HELPFUL_PER_CRITIQUE = 2  # helpful conversations for each example of a critique
CRITIQUE_SFT = FinetuneConfig(epochs=1.0, before_after="none")


def constitution(job: AlignJob, out: Path, overwrite: bool = False) -> JsonObject:
    """Fine-tune `job.model` on its revised answers, and with `n_preferences` on its critic's preferences. The model goes
    to `out`, all texts to `out`-constitution. `job.data` are helpful conversations. Returns the figures of the last
    training, and those of each step as `constitution`.
    """
    config = job.training
    assert isinstance(config, ConstitutionConfig)
    spec: JsonObject = {"files": _digests(config)} | (job.budget.to_spec() if job.budget else {})
    with run_directory(job.work, config, [job.model, job.data], spec, overwrite) as run_dir:
        report_other_runs(run_dir, overwrite)
        run = ConstitutionRun(job, run_dir, load_principles(config.principles or PRIMER))
        start = run.critique_tuned()
        policy = LocalChatModel.load(start, str(pick_device(config.device)))
        critic = run.critic(policy)
        revised = run.revise_answers(policy, critic)
        counts: JsonObject = {"critic": critic.name, "outcomes": dict(outcomes(revised))}
        counts["revised"] = sum(row["final"] != row["answer"] for row in revised)
        counts["trained_on"] = len(run.trainable_conversations(revised))
        last = not config.n_preferences
        tuned = out if last else run_dir / "step-3-tuned"
        figures = run.tune(start, revised, tuned, overwrite)
        preferences: list[CachedRow] = []
        if not last:
            preferences = run.compare(LocalChatModel.load(tuned, str(pick_device(config.device))), critic)
            counts["preferences"] = dict(Counter(row["outcome"] for row in preferences))
            figures = run.tune_on_preferences(tuned, preferences, out, overwrite)
        run.save_texts(out, overwrite, revised, preferences, counts)
    return figures | {"constitution": counts}


def _digests(config: ConstitutionConfig) -> list[str]:
    """Of the files that the settings name: the result depends on their contents."""
    files = [principles_file(config.principles or PRIMER)] + (
        [Path(config.attacks)] if config.attacks else []
    )
    return [sha256_file(file) for file in files if file.is_file()]


@dataclass(frozen=True)
class ConstitutionRun:
    """The steps of one run."""

    job: AlignJob
    run_dir: Path
    principles: Sequence[PrincipleConfig]

    @property
    def config(self) -> ConstitutionConfig:
        assert isinstance(self.job.training, ConstitutionConfig)
        return self.job.training

    def critique_tuned(self) -> Path:
        """The model to start from: as it is, or fine-tuned on examples of critiques."""
        n_critique_examples = self.config.n_critique_examples
        if not n_critique_examples:
            return self.job.model
        out = self.run_dir / "step-0-critique-tuned"
        if not (out / LINEAGE).is_file():
            examples = critique_conversations(n_critique_examples, self.config.seed)
            helpful = self._helpful(HELPFUL_PER_CRITIQUE * n_critique_examples)
            figures = self._finetune(self.job.model, chain(examples, helpful), out, "critiques", CRITIQUE_SFT)
            log(
                f"constitution: {n_critique_examples} examples of critiques, validation loss {figures['loss']:.3f}"
            )
        return out

    def critic(self, policy: LocalChatModel) -> ChatModel:
        """The model itself, or the one that the settings name."""
        if self.config.critic is None:
            return policy
        named = part_of(self.config, CriticModel)
        name = named.critic_model if named else None
        return open_chat_model(self.config.critic, model=name, device=str(pick_device(self.config.device)))

    def revise_answers(self, policy: LocalChatModel, critic: ChatModel) -> list[CachedRow]:
        """Answers of the policy, critiqued and revised. `UserError` where most critiques are invalid."""
        attacks = self._attacks()

        def answer(chunk: Sequence[Attack]) -> list[CachedRow]:
            return [
                {"answer": text} for text in policy.generate(_prompts(chunk), max_new_tokens=MAX_NEW_TOKENS)
            ]

        answers = cached_map(
            self.run_dir / "step-1-answers.jsonl",
            attacks,
            lambda a: a.id,
            answer,
            CHUNK_SIZE,
            self._has_time(ANSWERS_SHARE),
        )
        responses = [
            Response(attack.id, attack.question, row["answer"])
            for attack, row in zip(attacks[: len(answers)], answers, strict=True)
            if row["answer"] is not None
        ]

        def critique(chunk: Sequence[Response]) -> list[CachedRow]:
            n_rounds = self.config.n_rounds or len(self.principles)
            return revise(critic, self.principles, chunk, n_rounds=n_rounds, seed=self.config.seed)

        rows = cached_map(
            self.run_dir / "step-2-revisions.jsonl",
            responses,
            lambda one: one.id,
            critique,
            CHUNK_SIZE,
            self._has_time(REVISIONS_SHARE),
        )
        if len(rows) < len(attacks) and self.job.budget:
            log(f"constitution: {len(rows)} of {len(attacks)} questions in the time")
        check_valid_fraction(outcomes(rows), critic.name, self.config.max_invalid)
        messages = {attack.id: attack.to_row()["messages"] for attack in attacks}
        revised = [row | {"messages": messages[row["id"]]} for row in rows]
        if not self.trainable_conversations(revised):
            counts = ", ".join(f"{n} were {outcome}" for outcome, n in outcomes(revised).items())
            raise UserError(
                f"no answer can be trained on: of {outcomes(revised).total()} critiques {counts}",
                "use another critic, fine-tune it on critiques (n_critique_examples), or use harder questions (attacks)",
            )
        n_revised = sum(row["final"] != row["answer"] for row in revised)
        log(
            f"constitution: {n_revised} of {len(revised)} answers revised by {critic.name},"
            f" {len(self.trainable_conversations(revised))} trained on"
        )
        return revised

    def trainable_conversations(self, rows: list[CachedRow]) -> list[Conversation]:
        """Conversations that end with an answer to which no principle objects, revised or acceptable as it was."""
        return [
            Conversation((*map(_message, row["messages"]), Message("assistant", row["final"])))
            for row in rows
            if is_trainable(row, len(self.principles))
        ]

    def tune(self, start: Path, rows: list[CachedRow], out: Path, overwrite: bool) -> JsonObject:
        """Fine-tune on the revised answers, with helpful conversations mixed in."""
        revised = self.trainable_conversations(rows)
        share = self.config.helpful_share
        helpful = self._helpful(round(len(revised) * share / (1 - share)))
        if out.name.startswith("step-") and (out / LINEAGE).is_file():
            return {}
        training = chat_finetune_config(self.config, **comparison_settings(self.config))
        budget = self._budget(TUNING_SHARE if self.config.n_preferences else 1.0)
        return self._finetune(start, chain(revised, helpful), out, "revised", training, overwrite, budget)

    def compare(self, policy: LocalChatModel, critic: ChatModel) -> list[CachedRow]:
        """Pairs of answers sampled from the policy, and which of them the critic prefers."""
        n = self.config.n_preferences
        attacks = self._attacks()
        order = rng(self.config.seed, "constitution", "preferences").permutation(len(attacks))[:n]
        chosen = [attacks[i] for i in order]

        def sample(chunk: Sequence[Attack]) -> list[CachedRow]:
            samples = []
            for number in (0, 1):
                seeds = [derive_seed(self.config.seed, a.id, number) % 2**63 for a in chunk]
                samples.append(
                    policy.generate(
                        _prompts(chunk), max_new_tokens=MAX_NEW_TOKENS, temperature=TEMPERATURE, seeds=seeds
                    )
                )
            return [{"first": first, "second": second} for first, second in zip(*samples, strict=True)]

        drawn = cached_map(
            self.run_dir / "step-4-pairs.jsonl",
            chosen,
            lambda a: a.id,
            sample,
            CHUNK_SIZE,
            self._has_time(PAIRS_SHARE),
        )
        pairs = [
            ResponsePair(attack.id, attack.question, row["first"], row["second"])
            for attack, row in zip(chosen[: len(drawn)], drawn, strict=True)
            if row["first"] is not None and row["second"] is not None
        ]

        def compare(chunk: Sequence[ResponsePair]) -> list[CachedRow]:
            return compare_responses(critic, self.principles, chunk, seed=self.config.seed)

        rows = cached_map(
            self.run_dir / "step-5-preferences.jsonl",
            pairs,
            lambda one: one.id,
            compare,
            CHUNK_SIZE,
            self._has_time(PREFERENCES_SHARE),
        )
        counts = Counter(row["outcome"] for row in rows)
        check_valid_comparisons(counts, critic.name, self.config.max_invalid)
        messages = {attack.id: attack.to_row()["messages"] for attack in chosen}
        log(f"constitution: {counts[PREFERRED]} preferences of {len(rows)} pairs by {critic.name}")
        return [row | {"messages": messages[row["id"]]} for row in rows]

    def tune_on_preferences(
        self, start: Path, rows: list[CachedRow], out: Path, overwrite: bool
    ) -> JsonObject:
        """DPO on the critic's preferences."""
        file, folder = self.run_dir / "preferences.jsonl", self.run_dir / "preferences"
        pairs = [
            {"prompt": row["messages"], "chosen": row["chosen"], "rejected": row["rejected"]}
            for row in rows
            if row["outcome"] == PREFERRED
        ]
        write_text_atomic(file, "".join(canonical_json(pair) + "\n" for pair in pairs))
        if not (folder / LINEAGE).is_file():
            prepare_preferences([str(file)], folder, overwrite=True)
        step = part_of(self.config, PreferenceStep)
        kl_coef = step.kl_coef if step else None
        training = DPOConfig(
            kl_coef=kl_coef,
            seed=self.config.seed,
            device=self.config.device,
            **comparison_settings(self.config),
        )
        work = self.run_dir / "step-6-dpo"
        job = replace(
            self.job, model=start, data=folder, work=work, training=training, budget=self._budget(1.0)
        )
        return run_job(job, out, overwrite)

    def save_texts(
        self,
        out: Path,
        overwrite: bool,
        revised: list[CachedRow],
        preferences: list[CachedRow],
        counts: JsonObject,
    ) -> None:
        """Write all texts, in a folder next to the model."""
        parents = [path for path in (self.job.model, self.job.data) if (path / LINEAGE).is_file()]
        settings = self.config.model_dump(mode="json", exclude_unset=True)
        lineage = Lineage("constitution", settings, list(parents), self.config.seed, counts)
        target = out.with_name(f"{out.name}-constitution")
        with writing_artifact(target, lineage, overwrite or target.exists()) as folder:
            write_json_atomic(folder / "results.json", counts)
            write_text_atomic(
                folder / "principles.yaml",
                principles_file(self.config.principles or PRIMER).read_text(encoding="utf-8"),
            )
            for name, rows in (("revisions", revised), ("preferences", preferences)):
                if rows:
                    lines = "".join(canonical_json(row) + "\n" for row in rows)
                    write_text_atomic(folder / f"{name}.jsonl", lines)

    def _budget(self, share: float) -> TimeBudget | None:
        """Of one training: a share of what is left, which ends it early. Its fingerprint is that of the whole."""
        whole = self.job.budget
        return replace(whole.part(share), fills=False, promised=whole.to_spec()["seconds"]) if whole else None

    def _has_time(self, share: float) -> Callable[[], bool]:
        """Whether the share of the time that a step gets is not over yet."""
        return self.job.budget.lasts(share) if self.job.budget else lambda: True

    def _attacks(self) -> list[Attack]:
        """The questions; hostile and harmless ones in turn, where the time may end before the last."""
        attacks = self._all_attacks()
        if self.job.budget is None:
            return attacks
        order = rng(self.config.seed, "constitution", "attacks").permutation(len(attacks))
        return [attacks[i] for i in order]

    def _all_attacks(self) -> list[Attack]:
        if self.config.attacks:
            return read_attacks(self.config.attacks)
        generated = part_of(self.config, PrimerAttacks)
        assert generated is not None
        n = generated.n_attacks
        hostile = primer_attacks(n, self.config.seed, held_out=False, categories=HOSTILE)
        return hostile + primer_attacks(
            N_HARMLESS * n, self.config.seed, held_out=False, categories=("over_refusal",)
        )

    def _helpful(self, n: int) -> Iterator[Conversation]:
        """`n` conversations of the data, or all where there are fewer, in an order that the seed decides."""
        known = list(iter_conversations(self.job.data, "train"))
        order = rng(self.config.seed, "constitution", "helpful").permutation(len(known))
        return (known[i] for i in order[:n])

    def _finetune(
        self,
        start: Path,
        conversations: Iterable[Conversation],
        out: Path,
        name: str,
        training: FinetuneConfig,
        overwrite: bool = False,
        budget: TimeBudget | None = None,
    ) -> JsonObject:
        """Fine-tune `start` on conversations; intermediate folders are kept until the run ends."""
        shards = self.run_dir / f"{name}-shards"
        if not (shards / LINEAGE).is_file():
            file = self.run_dir / f"{name}.jsonl"
            write_conversations(file, conversations)
            folder = prepare_conversations(
                [str(file)], self.run_dir / f"{name}-conversations", overwrite=True
            )
            make_conversation_shards(folder, start, shards, overwrite=True)
        training = training.replace(seed=self.config.seed, device=self.config.device)
        job = FinetuneJob(start, shards, self.run_dir / f"step-{name}", training, budget)
        return run_job(job, out, overwrite)


def _prompts(attacks: Sequence[Attack]) -> list[tuple[Message, ...]]:
    return [attack.messages for attack in attacks]


def _message(turn: dict[str, str]) -> Message:
    return Message(turn["role"], turn["content"])
