"""Settings of alignment: one group for all methods, each of which reads its part. Imports no torch.

`READ_BY` says which method reads what; a setting that the chosen method never looks at is an error.
"""

from typing import Literal

from pydantic import Field

from parakit.training.config import TrainingConfig

Method = Literal["reward", "dpo", "ppo", "grpo", "best_of_n", "constitution"]
PreferenceLoss = Literal["dpo", "ipo", "simpo"]


class AlignConfig(TrainingConfig):
    """How to align. None means: the method's own default."""

    kl_coef: float | None = Field(
        default=None, ge=0, description="strength of the KL penalty to the reference; dpo, ppo, grpo"
    )
    # --- learning from preferences: reward, dpo
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="reward, dpo: in every block; None: the model's own"
    )
    preference_loss: PreferenceLoss = Field(
        default="dpo", description="dpo: ipo asks for a fixed lead, simpo needs no reference"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="dpo: share of the preferences taken to be wrong"
    )
    margin: float = Field(
        default=0.0, description="reward, dpo: by how much, in units of reward, the better should lead"
    )
    row_margins: bool = Field(default=False, description="reward, dpo: add the data's own margins to it")
    reward_centering_coef: float = Field(
        default=0.01, ge=0, description="reward: how strongly rewards are kept around zero"
    )
    # --- learning from one's own completions: ppo, grpo, best_of_n
    group_size: int | None = Field(default=None, ge=1, description="completions of each prompt")
    rollout_prompts: int | None = Field(
        default=None, ge=1, description="prompts that are answered in one phase of rollouts"
    )
    max_new_tokens: int | None = Field(default=None, ge=1, description="longest completion in tokens")
    temperature: float | None = Field(default=None, gt=0, le=100, description="of rollouts")
    top_p: float | None = Field(default=None, gt=0, le=1, description="of rollouts; 1 keeps every token")
    truncation_penalty: float | None = Field(
        default=None, ge=0, description="taken from the reward of a completion that did not end by itself"
    )
    minibatches: int | None = Field(
        default=None, ge=1, description="optimizer steps in one pass over the rollouts of a phase"
    )
    ppo_epochs: int | None = Field(default=None, ge=1, description="passes over the rollouts of a phase")
    clip_range: float | None = Field(
        default=None, gt=0, lt=1, description="how far a token's probability ratio may pay"
    )
    max_kl: float | None = Field(
        default=None,
        gt=0,
        description="nats a token between the policy and its rollouts that end a phase early; none: never",
    )
    kl_estimator: Literal["k1", "k2", "k3"] | None = Field(
        default=None,
        description="of the KL penalty: k1 the log ratio, k2 half its square, k3 exp(-ratio) - 1 + ratio",
    )
    kl_target: float | None = Field(
        default=None, gt=0, description="nats a completion that kl_coef adapts to; none: kl_coef is fixed"
    )
    kl_limit: float | None = Field(
        default=None, gt=0, description="nats a completion from the reference that end the run; none: never"
    )
    discount: float | None = Field(default=None, ge=0, le=1, description="ppo: of rewards, each token")
    gae_lambda: float | None = Field(default=None, ge=0, le=1, description="ppo: 0 trusts values, 1 rewards")
    value_coef: float | None = Field(default=None, ge=0, description="ppo: weight of the value loss")
    value_clip_range: float | None = Field(
        default=None, gt=0, description="ppo: how far a value may move in a phase and still be rewarded"
    )
    whiten_rewards: bool | None = Field(
        default=None, description="ppo: rewards less their running mean, in running standard deviations"
    )
    divide_by_std: bool | None = Field(
        default=None, description="grpo: advantages in standard deviations of the group"
    )
    loss_norm: Literal["completion", "token", "constant"] | None = Field(
        default=None, description="grpo: a token's loss is divided by its completion's length, all tokens,"
        " or max_new_tokens",
    )  # fmt: skip

    # --- constitution
    principles: str | None = Field(
        default=None, description="constitution: a YAML file of principles; none: the primer's"
    )
    critic: str | None = Field(
        default=None,
        description="constitution: a model folder or a chat endpoint's URL; none: the model itself",
    )
    critic_model: str | None = Field(
        default=None, description="constitution: the critic's name at its URL; none: the first that it lists"
    )
    attacks: str | None = Field(
        default=None, description="constitution: a file of questions to revise answers to; none: the primer's"
    )
    n_attacks: int | None = Field(
        default=None, ge=1, description="constitution: the primer's questions of each category; none: 300"
    )
    n_rounds: int | None = Field(
        default=None, ge=1, description="constitution: critiques of an answer; none: one for each principle"
    )
    n_critique_examples: int | None = Field(
        default=None,
        ge=0,
        description="constitution: the primer's critique examples to tune on first; none: 0",
    )
    helpful_share: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="constitution: of the conversations to tune on, from the data; none: 0.75",
    )
    n_preferences: int | None = Field(
        default=None,
        ge=0,
        description="constitution: questions answered twice and compared, for dpo; none: 0",
    )
    max_invalid: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="constitution: largest share of invalid critiques; none: 0.5",
    )


_ROLLOUTS = {"group_size", "max_new_tokens", "temperature", "top_p", "truncation_penalty"}
_PHASES = {"rollout_prompts", "minibatches", "ppo_epochs", "clip_range", "max_kl", "kl_coef"}
_PHASES |= {"kl_estimator", "kl_target", "kl_limit"}
_PPO = {"discount", "gae_lambda", "value_coef", "value_clip_range", "whiten_rewards"}

# The settings above that a method reads; each line is its method's own.
READ_BY: dict[Method, frozenset[str]] = {
    "reward": frozenset({"dropout", "margin", "row_margins", "reward_centering_coef"}),
    "dpo": frozenset({"dropout", "kl_coef", "preference_loss", "label_smoothing", "margin", "row_margins"}),
    "ppo": frozenset(_ROLLOUTS | _PHASES | _PPO),
    "grpo": frozenset(_ROLLOUTS | _PHASES | {"divide_by_std", "loss_norm"}),
    "best_of_n": frozenset(_ROLLOUTS),
    "constitution": frozenset(
        {
            "kl_coef",
            "principles",
            "critic",
            "critic_model",
            "attacks",
            "n_attacks",
            "n_rounds",
            "n_critique_examples",
        }
        | {"helpful_share", "n_preferences", "max_invalid"}
    ),
}
