"""F1 of entities: one counts as found where its type, its first and its last word are all right (seqeval)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from compressit.algorithms.entities import MARKED, OUTSIDE, spelled
from compressit.errors import RecipeError
from compressit.metrics import Evidence, Kind, MetricConfig, Tags, _labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.CORPUS
BETTER = "higher"
UNIT = ""
READS = (Tags,)
RANGE = (0, 1)

LETTERS = {"IOB1": "IB", "IOB2": "IB", "IOE1": "IE", "IOE2": "IE", "IOBES": "IBES", "BILOU": "BILU"}
BARE = (None, "IOB1", "IOE1")
"""Schemes that tags follow that are names of types alone."""
Entity = tuple[str, int, int]
"""Type, first and last word."""


class Config(MetricConfig):
    """Fields of the metric."""

    scheme: Literal["IOB1", "IOB2", "IOE1", "IOE2", "IOBES", "BILOU"] | None = None
    """Count only what follows this scheme to the letter; BMES is IOBES (default: as conlleval does, whatever the
    scheme, plain names of types included)."""
    average: Literal["micro", "macro", "weighted"] = "micro"
    """Whether all entities count alike, or the figures of types are averaged, alike or by how many there are."""

    def packages(self) -> dict[str, str]:
        """Name what computes it."""
        return {"seqeval": "tasks"}


def sums(evidence: Evidence, config: Config) -> NDArray[np.float64]:
    """Count entities that are right, predicted and true, of each type: (examples, 3 x types)."""
    import numpy as np

    said = evidence.said(Tags)
    written = spelled([str(name) for name in said.names], config.scheme)
    found = [
        [_entities([written[tag] for tag in tags], config.scheme) for tags in said.sentences(ids)]
        for ids in (said.choices, said.labels)
    ]
    types = sorted({entity[0] for side in found for entities in side for entity in entities})
    place = {kind: index for index, kind in enumerate(types)}
    counts = np.zeros((len(said), 3, len(types)))
    for example, (predicted, true) in enumerate(zip(*found, strict=True)):
        for row, entities in enumerate((predicted & true, predicted, true)):
            for kind, _, _ in entities:
                counts[example, row, place[kind]] += 1
    return counts.reshape(len(said), -1)


def figure(total: NDArray[np.float64], config: Config) -> float:
    """Give 2 x right / (predicted + true), 0 without any."""
    return _labels.f1(total, config.average)


def measure(evidence: Evidence, config: Config) -> float:
    """Compute it over the evaluation split."""
    return figure(sums(evidence, config).sum(0), config)


def fits(config: Config, labels: Mapping[int, str]) -> None:
    """Raise RecipeError where a model's tags hold no entities, or not in the scheme asked for."""
    names = list(labels.values())
    listed = ", ".join(names[:20])
    if OUTSIDE not in names:
        raise RecipeError(
            f"{config.key} needs a tag O for words outside of entities; the model's are {listed}",
            hint="accuracy counts every word",
        )
    written = spelled(names, config.scheme)
    strange = [name for name, tag in written.items() if config.scheme and tag[0] not in "O" + LETTERS[config.scheme]]
    bare = not any(MARKED.fullmatch(name) for name in names) and config.scheme not in BARE
    if strange or bare:
        raise RecipeError(
            f"{config.key}: the model's tags don't follow {config.scheme}: {', '.join(strange) or listed}",
            hint="leave scheme out, or name the one they follow",
        )


def _entities(tags: list[str], scheme: str | None) -> set[Entity]:
    from seqeval import scheme as schemes
    from seqeval.metrics.sequence_labeling import get_entities

    if scheme is None:
        return set(get_entities(tags))
    kind: Any = getattr(schemes, scheme)
    (found,) = schemes.Entities([tags], scheme=kind).entities
    return {(entity.tag, entity.start, entity.end) for entity in found}
