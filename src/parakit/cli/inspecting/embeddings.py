"""`parakit inspect embeddings`: neighbours of words, analogies, similarity of texts, and a map of vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from parakit.cli.inspecting.options import InspectConfig, new_page, opened_model
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import OVERWRITES, Needs, refuse_inert
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from parakit.inference.loaded_model import Model
    from parakit.inspection.vectors.projection import PlaneMap
    from parakit.inspection.vectors.word_vectors import AnalogyScore, Neighbour


class InspectEmbeddingsCommandConfig(InspectConfig):
    """What is near what: words by their rows of the embedding, texts by the model's vectors."""

    words: tuple[str, ...] = Field(default=(), description="Words whose nearest words are listed.")
    texts: tuple[str, ...] = Field(default=(), description="Texts that are compared with one another.")
    analogy: tuple[str, ...] = Field(
        default=(), description="Three words a b c: which word is to c as b is to a."
    )
    analogies: str | None = Field(
        default=None, description="A file of analogies, as questions-words.txt: the share that is right."
    )
    n_neighbours: int = Field(default=10, ge=1, description="Nearest words of each query.")
    table: Literal["input", "output"] = Field(
        default="input", description="The token embedding, or the output matrix."
    )
    map: Literal["pca", "neighbours"] | None = Field(
        default=None,
        description="Map the words with their neighbours, or the texts: by principal components, or by neighbours (t-SNE,"
        " parakit[inspect]).",
    )
    output: str | None = Field(
        default=None, description="A page (.html) to write; with --map also a picture (.svg)."
    )
    overwrite: bool = Field(default=False, description="Replace an existing file.")


_NEEDS = (
    OVERWRITES,
    Needs(
        ("n_neighbours", "table"),
        lambda command: command.words or command.analogy or command.analogies,
        "texts have vectors of their own",
        "name words",
    ),
    Needs(
        ("map",), lambda command: command.output, "a map is a picture", "name --output PAGE.html or MAP.svg"
    ),
    Needs(
        ("map",),
        lambda command: command.words or command.texts,
        "there is nothing to map",
        "name --words or --texts",
    ),
)


def main(argv: list[str]) -> int:
    """Run `parakit inspect embeddings` with these arguments."""
    command = parse_command(InspectEmbeddingsCommandConfig, argv, "parakit inspect embeddings")
    refuse_inert(command, _NEEDS)
    if not (command.words or command.texts or command.analogy or command.analogies):
        raise UserError("there is nothing to look up", "name --words, --texts, --analogy or --analogies")
    if command.analogy and len(command.analogy) != 3:
        raise UserError(f"an analogy of {len(command.analogy)} words", "give three: --analogy man king woman")
    is_picture = command.map is not None and str(command.output).endswith(".svg")
    page = new_page(command.output, command.overwrite, ".svg" if is_picture else ".html")
    with opened_model(command) as model:
        found = _look_up(command, model)
    if page is not None:
        _write(command, found, page)
        log(f"{'map' if is_picture else 'page'}: {page}")
    if command.as_json:
        print(json.dumps(_as_json(found), ensure_ascii=False))
    elif page is None:
        from rich.console import Console

        _show(found, Console())
    return 0


def _look_up(command: InspectEmbeddingsCommandConfig, model: Model) -> JsonObject:
    """neighbours: [(title, note, found)], similarity, accuracy, plane and strong, as far as they were requested."""
    from parakit.inference.prediction.analogies import read_analogies
    from parakit.inspection.vectors.projection import plane_map
    from parakit.inspection.vectors.texts import nearest_words, text_similarity, word_query
    from parakit.inspection.vectors.word_vectors import total, word_vectors

    found: JsonObject = {"neighbours": [], "similarity": None, "accuracy": [], "plane": None, "strong": ()}
    if command.words or command.analogy or command.analogies:
        vectors = word_vectors(model, command.table)
    placed: dict[str, np.ndarray] = {}
    for word in command.words:
        found_words, tokens = nearest_words(model, vectors, word, command.n_neighbours, command.table)
        note = "" if len(tokens) == 1 else f"the mean of the tokens {' '.join(map(repr, tokens))}"
        found["neighbours"].append((word, note, found_words))
        placed[word] = word_query(model, word, command.table)[0]
        placed |= {
            one.word: vectors.vectors[vectors.rows[one.word]] for one in found_words if one.word not in placed
        }
    if command.analogy:
        a, b, c = command.analogy
        title = f"{a} : {b} = {c} : ?"
        found["neighbours"].append((title, "", vectors.analogy(a, b, c, command.n_neighbours)))
    if command.analogies:
        scores = vectors.analogy_scores(read_analogies(Path(command.analogies)))
        found["accuracy"] = [*scores, total(scores)]
    if command.texts:
        found["similarity"] = text_similarity(model, command.texts)
    if command.map:
        labels, strong = (tuple(placed), command.words) if placed else (command.texts, ())
        rows: Any = list(placed.values()) if placed else found["similarity"].vectors
        found |= {"plane": plane_map(labels, _stacked(rows), command.map), "strong": strong}
    return found


def _stacked(rows: Any) -> np.ndarray:
    import numpy as np

    stacked: np.ndarray = np.stack(list(rows))
    return stacked


def _write(command: InspectEmbeddingsCommandConfig, found: JsonObject, path: Path) -> None:
    from parakit.common.files import write_text_atomic
    from parakit.reports.inspection.page import render_map, write_page
    from parakit.reports.inspection.weights import embeddings_page

    if path.suffix == ".svg":
        write_text_atomic(path, render_map(found["plane"], found["strong"]))
        return
    similarity = found["similarity"]
    page = embeddings_page(
        command.model,
        neighbours=found["neighbours"],
        texts=command.texts,
        similarity=None if similarity is None else similarity.cosine,
        accuracy=found["accuracy"],
        plane=found["plane"],
        strong=found["strong"],
    )
    write_page(page, path)


def _as_json(found: JsonObject) -> JsonObject:
    plane: PlaneMap | None = found["plane"]
    similarity = found["similarity"]
    scores: list[AnalogyScore] = found["accuracy"]
    neighbours: list[tuple[str, str, list[Neighbour]]] = found["neighbours"]
    return {
        "neighbours": [
            {"query": title, "note": note, "words": [vars(one) for one in listed]}
            for title, note, listed in neighbours
        ],
        "similarity": None
        if similarity is None
        else {"texts": list(similarity.texts), "cosine": similarity.cosine.tolist()},
        "analogies": [vars(score) | {"accuracy": score.accuracy} for score in scores],
        "map": None
        if plane is None
        else {"method": plane.method, "labels": list(plane.labels), "points": plane.points.tolist()},
    }


def _show(found: JsonObject, console: Console) -> None:
    from rich.table import Table

    from parakit.cli.rendering.safe_text import safe
    from parakit.reports.inspection.weights import accuracy_row

    for title, note, listed in found["neighbours"]:
        table = Table(safe(title), "cosine", caption=safe(note))
        for one in listed:
            table.add_row(safe(one.word), f"{one.cosine:.3f}")
        console.print(table)
    if found["similarity"] is not None:
        similarity = found["similarity"]
        table = Table("text", *(str(n + 1) for n in range(len(similarity.texts))))
        for number, (text, row) in enumerate(
            zip(similarity.texts, similarity.cosine.tolist(), strict=True), 1
        ):
            table.add_row(f"{number}: {safe(text)}", *(f"{value:.3f}" for value in row))
        console.print(table)
    if found["accuracy"]:
        table = Table("analogies", "right", "95 % interval", "questions", "of")
        for score in found["accuracy"]:
            table.add_row(*(safe(value) for value in accuracy_row(score).values()))
        console.print(table)
