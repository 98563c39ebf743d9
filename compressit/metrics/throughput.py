"""Examples per second, at a batch size, from the median run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from compressit.metrics import Evidence, Kind, MetricConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = Kind.TIMED
BETTER = "higher"
UNIT = "examples/s"


class Config(MetricConfig):
    """Fields of the metric."""

    batch_size: int = Field(32, ge=1)
    """Examples in a batch."""

    def batch_sizes(self) -> tuple[int, ...]:
        """Ask for one batch size."""
        return (self.batch_size,)


def measure(evidence: Evidence, config: Config) -> float:
    """Divide the batch size by the median run."""
    import numpy as np

    return config.batch_size / float(np.median(evidence.timings[config.batch_size].artifact))


def per_run(timings: NDArray[np.float64], config: Config) -> NDArray[np.float64]:
    """Turn seconds of runs into this metric's value, run by run."""
    return config.batch_size / timings
