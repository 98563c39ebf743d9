"""Time saved artifacts side by side in one fresh process, however many there are."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from compressit.measure import Setting, Subject
from compressit.measure.interleaving import SECONDS
from compressit.measure.processes import in_process

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Shape(NamedTuple):
    """What goes in at once.

    Attributes:
        size: Texts, images or sounds of a batch.
        length: Tokens of each text where they are drawn at random; None for rows of a data set, images and
            sounds.
    """

    size: int
    length: int | None = None


@dataclass(frozen=True)
class SideBySide:
    """Seconds of each round, in which every artifact ran once, one right after the other.

    Attributes:
        seconds: (rounds,) of each artifact by its name, in the order they were given.
        again: (rounds,) of the first one, run once more: how far the two lie apart is the machine's noise.
    """

    seconds: Mapping[str, NDArray[np.float64]]
    again: NDArray[np.float64]


def side_by_side(
    subjects: Mapping[str, Subject], setting: Setting, shapes: Sequence[Shape], seconds: float = SECONDS
) -> dict[Shape, SideBySide]:
    """Time artifacts of one task, in an order drawn anew in each round, after a warm-up.

    With `setting.rows` each round takes the same rows for all, prepared by each one's own tokenizer; without, tokens
    drawn at random of each one's vocabulary, in texts of an exact length, or noise for images and sounds.

    Args:
        subjects: The artifacts by any names; the first one is what others are held against.
        setting: Their task, the rows if any, and the seed.
        shapes: Each is timed by itself.
        seconds: That the rounds of one shape shall take about, of all artifacts together; there are 21 at least.

    Raises:
        CompressitError: of the kind that the process met.
    """
    job = {
        "do": "time",
        # Weights that stay on disk would be timed as the disk.
        "setting": asdict(replace(setting, on_disk=None)),
        "subjects": [asdict(subject) for subject in subjects.values()],
        "shapes": [tuple(shape) for shape in shapes],
        "seconds": seconds,
    }
    with tempfile.TemporaryDirectory(prefix="compressit-") as scratch:
        in_process(job, scratch, f"timing {', '.join(subjects)}")
        with np.load(Path(scratch) / "arrays.npz") as arrays:
            found = {}
            for number, shape in enumerate(shapes):
                took = {name: arrays[f"{number}_{place}"] for place, name in enumerate(subjects)}
                found[shape] = SideBySide(took, arrays[f"{number}_again"])
            return found
