"""Settings of alignment, one class for each method. Imports no torch."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from parakit.common.choices import ABSENT, GIVEN
from parakit.common.errors import UserError
from parakit.common.settings import Choices, Config
from parakit.tokens.config import LongRowRule, LongRowSettings
from parakit.training.config import BeforeAfter, ExampleBatches, TextBatches, TrainingConfig

Method = Literal["reward", "dpo", "ppo", "grpo", "best_of_n", "constitution"]
PreferenceLoss = Literal["dpo", "ipo", "simpo"]


class AlignConfig(TrainingConfig):
    """How to align: the base of all methods."""

    method: Method = Field(
        description="reward and dpo learn from preferences; ppo, grpo and best_of_n from "
        "rewards of the policy's own completions; constitution from principles."
    )


class Margins(Config):
    """By how much the chosen completion should win."""

    margin: float = Field(
        default=0.0, description="Margin, in units of reward, by which the chosen completion should win."
    )
    row_margins: bool = Field(default=False, description="Add the data's own margin of each pair to it.")


class SmoothedMargins(Margins):
    """What the losses dpo and simpo read, and ipo does not."""

    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="Fraction of the preferences assumed to be wrong."
    )


class RewardConfig(AlignConfig, Margins, ExampleBatches):
    """A reward model, trained on preferences."""

    method: Literal["reward"] = "reward"
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Dropout in every block. Default: the model's own."
    )
    reward_centering_coef: float = Field(
        default=0.01, ge=0, description="Weight of the penalty that keeps rewards centered on zero."
    )


class DPOConfig(AlignConfig, ExampleBatches, BeforeAfter):
    """Direct preference optimization (Rafailov et al. 2023), IPO (Azar et al. 2023), SimPO (Meng et al. 2024)."""

    choices: ClassVar[Choices] = {"preference_loss": {"dpo": SmoothedMargins, "simpo": SmoothedMargins}}

    method: Literal["dpo"] = "dpo"
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Dropout in every block. Default: the model's own."
    )
    preference_loss: PreferenceLoss = Field(
        default="dpo", description="dpo; ipo, with a fixed target margin; simpo, without a reference model."
    )
    kl_coef: float | None = Field(
        default=None,
        gt=0,
        description="Strength of the KL constraint to the reference "
        "(beta of the papers). Default: 0.1; simpo 2.0.",
    )


class RolloutConfig(AlignConfig, BeforeAfter):
    """A method that learns from the policy's own completions of prompts."""

    prompts: tuple[str, ...] = Field(
        default=(),
        description="Files of conversations: the prompt is everything up to the last question, and the "
        "turn after it is the reference answer. Default in a recipe: its conversations.",
    )
    reward: str | None = Field(
        default=None,
        description="A reward model's folder, final_answer, exact_answer, contains_answer, "
        "format=REGEX, length=WORDS, unit_tests, tool_tasks (the built-in world's, solved by calls), or "
        "python=module:function. "
        "Default in a recipe: the reward model of an earlier step.",
    )
    monitor_rewards: tuple[str, ...] = Field(
        default=(),
        description="Further rewards that are measured on held-out prompts and not "
        "optimized; one that falls is a sign of overoptimization.",
    )
    too_long: LongRowRule = Field(
        default="drop",
        description="What happens to a prompt that leaves no room for max_new_tokens: it is left out (drop), cut on the"
        " left (truncate), or stops the run (refuse).",
    )
    group_size: int = Field(default=1, ge=1, description="Completions of each prompt.")
    max_new_tokens: int = Field(default=64, ge=1, description="Length limit of a completion in tokens.")
    temperature: float = Field(default=1.0, gt=0, le=100, description="Sampling temperature of rollouts.")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Nucleus sampling of rollouts; 1 keeps every token."
    )
    truncation_penalty: float = Field(
        default=0.0,
        ge=0,
        description="Subtracted from the reward of a completion that reaches max_new_tokens.",
    )

    @property
    def uses_tools(self) -> bool:
        """Whether completions are conversations with calls of tools and their results."""
        return self.reward == "tool_tasks"


class RLConfig(RolloutConfig):
    """PPO and GRPO: phases of rollouts, each followed by some optimizer steps on them."""

    compile: Literal["auto", "off"] = Field(
        default="auto",
        description="torch.compile; auto: where it saves time. Rollouts "
        "change weights and lengths in every step.",
    )
    rollout_prompts: int = Field(default=1, ge=1, description="Prompts per phase of rollouts.")
    minibatches: int = Field(
        default=1, ge=1, description="Optimizer steps per pass over the rollouts of a phase."
    )
    ppo_epochs: int = Field(default=1, ge=1, description="Passes over the rollouts of a phase.")
    clip_range: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="The probability ratio of a token is clipped to 1 - clip_range .. 1 + clip_range.",
    )
    max_kl: float | None = Field(
        default=None,
        gt=0,
        description="KL between the policy and its rollouts, in nats a "
        "token, that ends a phase early. Default: never.",
    )
    kl_coef: float = Field(default=0.0, ge=0, description="Weight of the KL penalty to the reference.")
    kl_estimator: Literal["k1", "k2", "k3"] = Field(
        default="k1",
        description="Estimator of the KL penalty: k1 the log ratio, k2 "
        "half its square, k3 exp(-log ratio) - 1 + log ratio.",
    )
    kl_target: float | None = Field(
        default=None,
        gt=0,
        description="KL in nats a completion to which kl_coef adapts. Default: kl_coef is fixed.",
    )
    kl_limit: float | None = Field(
        default=None,
        gt=0,
        description="KL from the reference, in nats a completion, that ends the run. Default: never.",
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
                f"set minibatches to {max(n for n in range(1, self.minibatches + 1) if not self.n_rollouts % n)}",
            )
        return self


class PPOConfig(RLConfig):
    """Proximal policy optimization (Schulman et al. 2017) with a value head."""

    method: Literal["ppo"] = "ppo"
    rollout_prompts: int = Field(default=128, ge=1, description="Prompts per phase of rollouts.")
    minibatches: int = Field(
        default=4, ge=1, description="Optimizer steps per pass over the rollouts of a phase."
    )
    ppo_epochs: int = Field(default=2, ge=1, description="Passes over the rollouts of a phase.")
    kl_coef: float = Field(default=0.05, ge=0, description="Weight of the KL penalty to the reference.")
    discount: float = Field(default=1.0, ge=0, le=1, description="Discount of rewards, per token.")
    gae_lambda: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="Lambda of generalized advantage estimation: 0 relies on values, 1 on rewards.",
    )
    value_coef: float = Field(default=0.1, ge=0, description="Weight of the value loss.")
    value_clip_range: float = Field(
        default=0.2, gt=0, description="A value may move by this much in a phase before its loss is clipped."
    )
    whiten_rewards: bool = Field(
        default=True, description="Normalize rewards by their running mean and standard deviation."
    )


class GRPOConfig(RLConfig):
    """Group relative policy optimization (Shao et al. 2024)."""

    method: Literal["grpo"] = "grpo"
    group_size: int = Field(
        default=8, ge=1, description="Completions of each prompt, which are compared with each other."
    )
    rollout_prompts: int = Field(default=16, ge=1, description="Prompts per phase of rollouts.")
    minibatches: int = Field(
        default=2, ge=1, description="Optimizer steps per pass over the rollouts of a phase."
    )
    kl_coef: float = Field(default=0.04, ge=0, description="Weight of the KL penalty to the reference.")
    kl_estimator: Literal["k1", "k2", "k3"] = Field(
        default="k2",
        description="Estimator of the KL penalty: k2 half the squared "
        "log ratio, k3 exp(-log ratio) - 1 + log ratio.",
    )
    divide_by_std: bool = Field(
        default=True, description="Divide advantages by the standard deviation of their group."
    )
    loss_norm: Literal["completion", "token", "constant"] = Field(
        default="completion",
        description="The loss of a token is divided by its completion's length, by "
        "the number of all tokens, or by max_new_tokens (constant).",
    )

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if self.group_size < 2:
            raise UserError(
                f"group_size = {self.group_size}: grpo compares the completions of one prompt with each other",
                "set group_size to 8; 4 to 16 are usual",
            )
        if self.kl_estimator == "k1" and self.kl_coef:
            raise UserError(
                "kl_estimator = k1: in a loss its gradient is zero on average, so it would penalize nothing",
                "set kl_estimator to k2, whose gradient is the divergence's own, or to k3",
            )
        return self


class BestOfNConfig(RolloutConfig, TextBatches):
    """Rejection sampling: fine-tune on the best of several completions of each prompt."""

    method: Literal["best_of_n"] = "best_of_n"
    group_size: int = Field(default=16, ge=1, description="Completions of each prompt.")


class CriticModel(Config):
    """Of a critic at a URL."""

    critic_model: str | None = Field(
        default=None,
        description="Name of the critic at its URL. Default: the first model that the endpoint lists.",
    )


class PrimerAttacks(Config):
    """Of the primer's attacks."""

    n_attacks: int = Field(default=300, ge=1, description="The primer's questions of each category.")


class PreferenceStep(Config):
    """Of the DPO step that follows the revisions."""

    kl_coef: float | None = Field(
        default=None, gt=0, description="Strength of the KL constraint in the DPO step. Default: 0.1."
    )


class ConstitutionConfig(AlignConfig, TextBatches, BeforeAfter, LongRowSettings):
    """Constitutional AI (Bai et al. 2022): critiques and revisions of the model's own answers."""

    choices: ClassVar[Choices] = {
        "critic": {GIVEN: CriticModel},
        "attacks": {ABSENT: PrimerAttacks},
        "n_preferences": {GIVEN: PreferenceStep},
    }

    method: Literal["constitution"] = "constitution"
    prompts: tuple[str, ...] = Field(
        default=(),
        description="Files of helpful conversations to mix in. Default in a recipe: its conversations.",
    )
    principles: str | None = Field(
        default=None, description="YAML file of principles. Default: the primer's."
    )
    critic: str | None = Field(
        default=None,
        description="Model folder, or URL of a chat endpoint, that criticises. Default: the model itself.",
    )
    attacks: str | None = Field(
        default=None, description="File of questions whose answers are revised. Default: the primer's."
    )
    n_rounds: int | None = Field(
        default=None, ge=1, description="Critiques per answer. Default: one for each principle."
    )
    n_critique_examples: int = Field(
        default=0, ge=0, description="The primer's examples of critiques to fine-tune on first."
    )
    helpful_share: float = Field(
        default=0.75,
        ge=0,
        lt=1,
        description="Fraction of the conversations for fine-tuning that come from the prompts.",
    )
    n_preferences: int = Field(
        default=0,
        ge=0,
        description="Questions that are answered twice and compared by the critic, for a DPO step; 0: no DPO.",
    )
    max_invalid: float = Field(
        default=0.5, ge=0, le=1, description="Fraction of invalid critiques beyond which the run stops."
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
