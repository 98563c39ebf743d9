"""What a search has found."""

from __future__ import annotations

from dataclasses import dataclass

from compressit.report import Search
from compressit.search import judging
from compressit.search.judging import Judged, Objective


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        tried: Every trial that has ended, in order.
        front: Places among these of those that no other beats.
        chosen: Place of the one that is taken; None where none meets every target.
        nearest: Place of the one least far from the targets; None where all died.
    """

    tried: tuple[Judged, ...]
    wanted: tuple[Objective, ...]
    front: tuple[int, ...]
    chosen: int | None
    nearest: int | None
    split: str
    sampler: str

    def record(self) -> Search:
        """Write it down for the report."""
        return Search(
            split=self.split,
            sampler=self.sampler,
            objectives=tuple(each.metric for each in self.wanted),
            trials=tuple(
                judging.record(place + 1, each, front=place in self.front, chosen=place == self.chosen)
                for place, each in enumerate(self.tried)
            ),
        )


def missed(found: Found) -> list[str]:
    """Say how near each target came to being met, in the trial that is nearest to all of them, and at best.

    What died might have met them: that is said, too.
    """
    assert found.nearest is not None, "asked where a trial has lived"
    near = found.tried[found.nearest]
    lines = [f"nearest, trial {found.nearest + 1}: {_set(near)}"]
    for name, off in near.off.items():
        if off <= 0:
            lines.append(f"  {name}: met")
            continue
        least, place = min((each.off[name], place) for place, each in enumerate(found.tried) if name in each.off)
        best = f"no trial is nearer than {least:.1%}" if least > 0 else f"met in trial {place + 1}, where others aren't"
        lines.append(f"  {name}: off by {off:.1%} of it; {best}")
    for place, each in enumerate(found.tried):
        if each.why:
            lines.append(f"nobody knows about trial {place + 1}, which died: {_set(each)}: {each.why}")
    return lines


def _set(found: Judged) -> str:
    return ", ".join(f"{name}={value}" for name, value in found.settings.items())
