"""baseline.json: the figures of one run in a small file that is committed, for candidates to be held against.

Where answers are right or wrong, the file says which were right, one bit an example, so that a candidate is still
compared with it in pairs. Other figures are compared as if they came from other examples: their bounds are wider.
"""

from __future__ import annotations

import base64
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressit import metrics
from compressit.compare import Side, comparable
from compressit.compare.runs import Run
from compressit.errors import IntegrityError, RecipeError
from compressit.metrics import Evidence, Kind, MetricConfig
from compressit.report import Part, bounds, parsed, statistics
from compressit.report.statistics import Interval

SCHEMA_VERSION = 1
MAX_BYTES = 64 << 20
MAX_EXAMPLES = 10_000_000
ROUNDING = 1e-9


class Figure(Part):
    """One metric of the run.

    Attributes:
        measuring: The metric's fields and version.
        right: Which examples were answered right, packed, deflated, base64; None where that is no yes or no.
    """

    measuring: dict[str, Any]
    unit: str
    value: float | None
    low: float | None
    high: float | None
    right: str | None = None


class Baseline(Part):
    """Everything a candidate is held against.

    Attributes:
        judged: The facts that a candidate must share.
    """

    schema_version: int = SCHEMA_VERSION
    side: Side
    judged: dict[str, str | int | None]
    hardware: dict[str, str | int]
    figures: dict[str, Figure]

    @property
    def examples(self) -> int:
        """How many examples the figures are of."""
        said = self.judged.get("examples")
        return said if isinstance(said, int) else 0

    def right(self, key: str) -> NDArray[np.bool_] | None:
        """Unpack which examples were right: (examples,)."""
        figure, count = self.figures[key], self.examples
        if figure.right is None or not 0 < count <= MAX_EXAMPLES:
            return None
        try:
            raw = zlib.decompressobj().decompress(base64.b64decode(figure.right, validate=True), count // 8 + 2)
        except (ValueError, zlib.error) as error:
            raise IntegrityError(f"the baseline's answers for {key} can't be read: {error}") from error
        found: NDArray[np.bool_] = np.unpackbits(np.frombuffer(raw, np.uint8))[:count].astype(bool)
        if len(raw) != (count + 7) // 8 or figure.value is None or abs(found.mean() - figure.value) > ROUNDING:
            raise IntegrityError(
                f"the baseline's answers for {key} are not those of its figure: the file was changed or cut",
                hint="write it again with --write-baseline",
            )
        return found

    def interval(self, key: str) -> Interval:
        """Give the figure's bounds; what was not bounded could be anything, and an exact figure is itself."""
        figure = self.figures[key]
        if figure.low is None and figure.high is None and metrics.load(self.metric(key)).KIND is Kind.EXACT:
            own = float("nan") if figure.value is None else figure.value
            return Interval(own, own)
        return statistics.between(figure.low, figure.high)

    def metric(self, key: str) -> str:
        """Say which metric a figure is of."""
        return str(self.figures[key].measuring.get("metric"))


def of(run: Run) -> Baseline:
    """Take the figures of a run's compared artifact, and which examples it had right."""
    evidence = run.evidence()
    readings = {reading.metric: reading for reading in run.artifact.readings}
    figures = {
        key: Figure(
            measuring=dict(comparable.measuring(run, key)),
            unit=readings[key].unit,
            value=readings[key].value,
            low=readings[key].low,
            high=readings[key].high,
            right=_packed(config, evidence),
        )
        for key, config in run.metrics.items()
    }
    return Baseline(
        side=run.side,
        judged=dict(comparable.facts(run)),
        hardware=run.finished.report.provenance.hardware,
        figures=figures,
    )


def text(baseline: Baseline) -> str:
    """Write what the file holds, one figure after the other, for a reviewer to read."""
    return baseline.model_dump_json(indent=1) + "\n"


def read(file: Path) -> Baseline:
    """Read the file.

    Raises:
        RecipeError: there is none.
        IntegrityError: it can't be read, another version of compressit wrote it, or it contradicts itself.
    """
    try:
        with file.open("rb") as stream:
            held = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{file}: {error.strerror or error}", hint="write one with --write-baseline") from error
    if len(held) > MAX_BYTES:
        raise IntegrityError(f"{file} is larger than {MAX_BYTES >> 20} MiB: no baseline of compressit")
    found = parsed(Baseline, held, file, SCHEMA_VERSION)
    if not found.figures:
        raise IntegrityError(f"{file} holds no figure", hint="write it again with --write-baseline")
    unknown = [key for key in found.figures if found.metric(key) not in metrics.names()]
    if unknown:
        raise IntegrityError(f"{file}: there is no metric for {', '.join(unknown)}")
    for key, figure in found.figures.items():
        if figure.low is not None and figure.high is not None and figure.low > figure.high:
            raise IntegrityError(f"{file}: the lower bound of {key} is above the upper one: the file was changed")
        found.right(key)
    return found


def _packed(config: MetricConfig, evidence: Evidence) -> str | None:
    module: Any = metrics.load(config.metric)
    if module.KIND is not Kind.MEAN or bounds.kind_of(config, evidence) is not Kind.MEAN:
        return None
    scores = module.per_example(evidence, config)
    if not bounds.binary(scores) or len(scores) != len(evidence.predictions):
        return None
    return base64.b64encode(zlib.compress(np.packbits(scores > 0).tobytes(), 9)).decode("ascii")
