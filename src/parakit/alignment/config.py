"""Settings of alignment, one class for each method. Imports no torch."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from parakit.common.choices import ABSENT, GIVEN
from parakit.common.errors import UserError
from parakit.common.settings import Choices, Config
from parakit.training.config import ExampleBatches, TextBatches, TrainingConfig

Method = Literal["reward", "dpo", "ppo", "grpo", "best_of_n", "constitution"]
PreferenceLoss = Literal["dpo", "ipo", "simpo"]


class AlignConfig(TrainingConfig):
    """How to align: the base of all methods."""

    method: Method = Field(
        description="reward and dpo learn from preferences; ppo, grpo and best_of_n from a reward of the model's own"
        " completions; constitution from principles"
    )


class Margins(Config):
    """By how much the chosen completion should win."""

    margin: float = Field(
        default=0.0, description="by how much, in units of reward, the chosen completion should lead"
    )
    row_margins: bool = Field(default=False, description="add the data's own margins to it")


class SmoothedMargins(Margins):
    """What the losses dpo and simpo read, and ipo does not."""

    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="share of the preferences taken to be wrong"
    )


class RewardConfig(AlignConfig, Margins, ExampleBatches):
    """A reward model, trained on preferences."""

    method: Literal["reward"] = "reward"
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="in every block; None: the model's own"
    )
    reward_centering_coef: float = Field(
        default=0.01, ge=0, description="weight of the penalty that keeps rewards around zero"
    )


class DPOConfig(AlignConfig, ExampleBatches):
    """Direct preference optimization (Rafailov et al. 2023), IPO (Azar et al. 2023), SimPO (Meng et al. 2024)."""

    choices: ClassVar[Choices] = {"preference_loss": {"dpo": SmoothedMargins, "simpo": SmoothedMargins}}

    method: Literal["dpo"] = "dpo"
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="in every block; None: the model's own"
    )
    preference_loss: PreferenceLoss = Field(
        default="dpo", description="dpo; ipo, whose target is a fixed margin; simpo, which needs no reference"
    )
    kl_coef: float | None = Field(
        default=None, gt=0, description="weight of the reference; None: 0.1, simpo 2.0"
    )


class RolloutConfig(AlignConfig):
    """A method that learns from the policy's own completions of prompts."""

    prompts: tuple[str, ...] = Field(
        default=(),
        description="files of conversations whose last question is the prompt (what follows it is the right answer);"
        " in a recipe, none: its conversations",
    )
    reward: str | None = Field(
        default=None,
        description="a reward model's folder, final_answer, exact_answer, contains_answer, format=REGEX, length=WORDS,"
        " unit_tests, or python=module:function; in a recipe, none: the reward model of an earlier step",
    )
    monitor_rewards: tuple[str, ...] = Field(
        default=(),
        description="other rewards, measured on held-out prompts and never optimized; one that falls is a sign of"
        " overoptimization",
    )
    group_size: int = Field(default=1, ge=1, description="completions of each prompt")
    max_new_tokens: int = Field(default=64, ge=1, description="longest completion in tokens")
    temperature: float = Field(default=1.0, gt=0, le=100, description="of rollouts")
    top_p: float = Field(default=1.0, gt=0, le=1, description="of rollouts; 1 keeps every token")
    truncation_penalty: float = Field(
        default=0.0, ge=0, description="subtracted from the reward of a completion without an end of turn"
    )


class RLConfig(RolloutConfig):
    """PPO and GRPO: phases of rollouts, each followed by some optimizer steps on them."""

    compile: Literal["auto", "off"] = Field(
        default="auto", description="rollouts change the model's weights and lengths in every step"
    )
    rollout_prompts: int = Field(default=1, ge=1, description="prompts of one phase of rollouts")
    minibatches: int = Field(
        default=1, ge=1, description="optimizer steps in one pass over the rollouts of a phase"
    )
    ppo_epochs: int = Field(default=1, ge=1, description="passes over the rollouts of a phase")
    clip_range: float = Field(
        default=0.2, gt=0, lt=1, description="of a token's probability ratio, beyond which it earns nothing"
    )
    max_kl: float | None = Field(
        default=None,
        gt=0,
        description="nats a token between the policy and its rollouts that end a phase early; None: never",
    )
    kl_coef: float = Field(default=0.0, ge=0, description="weight of the KL penalty to the reference")
    kl_estimator: Literal["k1", "k2", "k3"] = Field(
        default="k1",
        description="of the KL penalty: k1 the log ratio, k2 half its square, k3 exp(-ratio) - 1 + ratio",
    )
    kl_target: float | None = Field(
        default=None, gt=0, description="nats a completion that kl_coef adapts to; None: kl_coef is fixed"
    )
    kl_limit: float | None = Field(
        default=None, gt=0, description="nats a completion from the reference that end the run; None: never"
    )

    @property
    def n_rollouts(self) -> int:
        """Completions of one phase."""
        return self.rollout_prompts * self.group_size

    @property
    def n_rows(self) -> int:
        """Completions of one optimizer step."""
        return self.n_rollouts // self.minibatches

    @property
    def steps_per_phase(self) -> int:
        """Optimizer steps of one phase that is not ended early."""
        return self.minibatches * self.ppo_epochs

    @model_validator(mode="after")
    def _whole_minibatches(self) -> Self:
        if self.n_rollouts % self.minibatches:
            raise UserError(
                f"minibatches = {self.minibatches}: does not divide the {self.n_rollouts} completions of a phase"
                f" (rollout_prompts = {self.rollout_prompts} times group_size = {self.group_size})",
                "choose a divisor, such as a power of two",
            )
        return self


class PPOConfig(RLConfig):
    """Proximal policy optimization (Schulman et al. 2017) with a value head."""

    method: Literal["ppo"] = "ppo"
    rollout_prompts: int = Field(default=128, ge=1, description="prompts of one phase of rollouts")
    minibatches: int = Field(
        default=4, ge=1, description="optimizer steps in one pass over the rollouts of a phase"
    )
    ppo_epochs: int = Field(default=2, ge=1, description="passes over the rollouts of a phase")
    kl_coef: float = Field(default=0.05, ge=0, description="weight of the KL penalty to the reference")
    discount: float = Field(default=1.0, ge=0, le=1, description="of rewards, each token")
    gae_lambda: float = Field(default=0.95, ge=0, le=1, description="0 trusts values, 1 rewards")
    value_coef: float = Field(default=0.1, ge=0, description="weight of the value loss")
    value_clip_range: float = Field(
        default=0.2, gt=0, description="how far a value may move in a phase, beyond which it earns nothing"
    )
    whiten_rewards: bool = Field(
        default=True, description="rewards less their running mean, in running standard deviations"
    )


class GRPOConfig(RLConfig):
    """Group relative policy optimization (Shao et al. 2024)."""

    method: Literal["grpo"] = "grpo"
    group_size: int = Field(
        default=8, ge=1, description="completions of each prompt, which are compared with each other"
    )
    rollout_prompts: int = Field(default=16, ge=1, description="prompts of one phase of rollouts")
    minibatches: int = Field(
        default=2, ge=1, description="optimizer steps in one pass over the rollouts of a phase"
    )
    kl_coef: float = Field(default=0.04, ge=0, description="weight of the KL penalty to the reference")
    kl_estimator: Literal["k1", "k2", "k3"] = Field(
        default="k2",
        description="of the KL penalty: k2 half the log ratio's square, k3 exp(-ratio) - 1 + ratio",
    )
    divide_by_std: bool = Field(default=True, description="advantages in standard deviations of the group")
    loss_norm: Literal["completion", "token", "constant"] = Field(
        default="completion",
        description="a token's loss is divided by its completion's length, all tokens, or max_new_tokens",
    )

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if self.group_size < 2:
            raise UserError(
                f"group_size = {self.group_size}: grpo compares the completions of one prompt with each other",
                "choose 4 to 16",
            )
        if self.kl_estimator == "k1" and self.kl_coef:
            raise UserError(
                "kl_estimator = k1: in a loss its gradient is zero on average, so it would penalize nothing",
                "use k2, whose gradient is the divergence's own, or k3",
            )
        return self


class BestOfNConfig(RolloutConfig, TextBatches):
    """Rejection sampling: fine-tune on the best of several completions of each prompt."""

    method: Literal["best_of_n"] = "best_of_n"
    group_size: int = Field(default=16, ge=1, description="completions of each prompt")


class CriticModel(Config):
    """Of a critic at a URL."""

    critic_model: str | None = Field(
        default=None, description="the critic's name at its URL; None: the first that it lists"
    )


class PrimerAttacks(Config):
    """Of the primer's attacks."""

    n_attacks: int = Field(default=300, ge=1, description="the primer's questions of each category")


class PreferenceStep(Config):
    """Of the DPO step that follows the revisions."""

    kl_coef: float | None = Field(default=None, gt=0, description="weight of the reference in DPO; None: 0.1")


class ConstitutionConfig(AlignConfig, TextBatches):
    """Constitutional AI (Bai et al. 2022): critiques and revisions of the model's own answers."""

    choices: ClassVar[Choices] = {
        "critic": {GIVEN: CriticModel},
        "attacks": {ABSENT: PrimerAttacks},
        "n_preferences": {GIVEN: PreferenceStep},
    }

    method: Literal["constitution"] = "constitution"
    prompts: tuple[str, ...] = Field(
        default=(),
        description="files of helpful conversations to mix in; in a recipe, none: its conversations",
    )
    principles: str | None = Field(default=None, description="a YAML file of principles; None: the primer's")
    critic: str | None = Field(
        default=None, description="a model folder or a chat endpoint's URL; None: the model itself"
    )
    attacks: str | None = Field(
        default=None, description="a file of questions to revise answers to; None: the primer's"
    )
    n_rounds: int | None = Field(
        default=None, ge=1, description="critiques of an answer; None: one for each principle"
    )
    n_critique_examples: int = Field(
        default=0, ge=0, description="the primer's examples of critiques to fine-tune on first"
    )
    helpful_share: float = Field(
        default=0.75, ge=0, lt=1, description="of the conversations to tune on, from `prompts`"
    )
    n_preferences: int = Field(
        default=0, ge=0, description="questions answered twice and compared by the critic, for a DPO step"
    )
    max_invalid: float = Field(
        default=0.5, ge=0, le=1, description="share of critiques that may be invalid before the run stops"
    )


AlignConfig.choices = {
    "method": {
        "reward": RewardConfig,
        "dpo": DPOConfig,
        "ppo": PPOConfig,
        "grpo": GRPOConfig,
        "best_of_n": BestOfNConfig,
        "constitution": ConstitutionConfig,
    }
}
