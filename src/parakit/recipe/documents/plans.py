"""What the stages of an index of documents will take, before anything is read: estimates from the bytes of the files."""

from __future__ import annotations

from parakit.assistants.retrieval.encoders import locate_encoder
from parakit.recipe.config import RecipeConfig
from parakit.recipe.stage_plan import StagePlan, file_bytes

FILL = 0.75  # of a passage's longest length, on average
QUESTIONS = 1.5  # that rules find about a thousand characters of prose, in each wording
HELD_OUT = 0.25  # of the passages
REQUEST_TOKENS = 120  # instructions, marks, question and answer of a conversation


def index_plan(recipe: RecipeConfig) -> StagePlan:
    """How many passages there will be."""
    n_bytes, n_passages = _size(recipe)
    assert recipe.index is not None
    encoder = locate_encoder(recipe.index.encoder)
    vectors = f"vectors by {encoder.parent.name}/{encoder.name}" if encoder else "words alone"
    note = f"about {n_passages:,.0f} passages of {n_bytes / 1e3:,.0f} kB, {vectors}"
    return StagePlan("index", None, [note])


def answers_plan(recipe: RecipeConfig) -> StagePlan:
    """How many questions measure the finished assistant."""
    assert recipe.index is not None
    models = "the published and the finished model" if recipe.start else "the finished model"
    n = recipe.index.n_questions
    which = "every other question of your file" if recipe.index.questions else f"at most {n:,} questions"
    note = (
        f"{which}, each answered four times by {models}, in at most {recipe.evaluate.max_new_tokens} tokens"
    )
    return StagePlan("answers", None, [note])


def index_conversation_tokens(recipe: RecipeConfig, bytes_per_token: float) -> tuple[float, str]:
    """Tokens of the conversations out of the index, and where the number comes from."""
    assert recipe.index is not None
    assert recipe.conversations is not None
    config = recipe.conversations.from_index
    assert config is not None
    n_bytes, n_passages = _size(recipe)
    found = QUESTIONS * config.wordings * n_bytes / 1e3 * (1 - HELD_OUT)
    n = min(float(config.max_questions), max(1.0, found)) * (1 - config.validation_fraction)
    shown = min(float(recipe.index.n_passages), n_passages)
    each = REQUEST_TOKENS + shown * FILL * recipe.index.passage_chars / bytes_per_token
    return (
        n * each,
        f"about {n:,.0f} conversations of {each:,.0f} tokens, estimated from the bytes of the documents",
    )


def _size(recipe: RecipeConfig) -> tuple[float, float]:
    """Bytes of the documents, and about how many passages they make."""
    assert recipe.index is not None
    n_bytes = sum(map(file_bytes, recipe.index.paths))
    return n_bytes, max(1.0, n_bytes / (FILL * recipe.index.passage_chars))
