"""Time from a batch going in to its logits coming out: the median; the 90th percentile stands beside it.

Where a model writes texts it is the time to write 32 tokens for each, or as many as the recipe lets it write. Batches
are real examples of the evaluation split, padded to their longest. Each run is timed next to a run of the original on
the same batch, in random order, after a warm-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from compressit.metrics import Evidence, Kind, MetricConfig, Timings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.TIMED
BETTER = "lower"
UNIT = "seconds"


class Config(MetricConfig):
    """Fields of the metric."""

    batch_size: int = Field(1, ge=1)
    """Examples in a batch."""

    def batch_sizes(self) -> tuple[int, ...]:
        """Ask for one batch size."""
        return (self.batch_size,)


def measure(evidence: Evidence, config: Config) -> float:
    """Take the median of the runs, in seconds."""
    import numpy as np

    return float(np.median(evidence.timings[config.batch_size].artifact))


def per_run(timings: NDArray[np.float64], config: Config) -> NDArray[np.float64]:
    """Turn seconds of runs into this metric's value, run by run."""
    return timings


def details(timings: Timings, config: Config) -> dict[str, float]:
    """Give the percentiles, in seconds, and how many examples went in at once."""
    import numpy as np

    p50, p90 = float(np.median(timings.artifact)), float(np.quantile(timings.artifact, 0.9))
    return {"p50": p50, "p90": p90, "batch_size": float(timings.batch_size)}
