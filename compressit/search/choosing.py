"""Which of the trials is taken: the best of those that meet every target; and which no other beats."""

from __future__ import annotations

from collections.abc import Sequence

from compressit.search.judging import Judged, Objective


def front(found: Sequence[Judged], wanted: Sequence[Objective]) -> list[int]:
    """List the trials that meet every target and that no other such beats: as good in all objectives, better in one."""

    def good(each: Judged) -> tuple[float, ...]:
        return tuple(-value if one.least else value for one, value in zip(wanted, each.values, strict=True))

    holding = [(place, good(each)) for place, each in enumerate(found) if each.holds]
    kept: dict[tuple[float, ...], int] = {}
    for place, own in holding:
        beaten = any(other != own and all(a >= b for a, b in zip(other, own, strict=True)) for _, other in holding)
        if not beaten:
            kept.setdefault(own, place)
    return sorted(kept.values())


def best(found: Sequence[Judged], wanted: Sequence[Objective]) -> int | None:
    """Choose of the front the best by the first objective; None where no trial meets every target."""
    places = front(found, wanted)
    if not places:
        return None
    sign = 1 if wanted[0].least else -1
    return min(places, key=lambda place: sign * found[place].values[0])


def nearest(found: Sequence[Judged]) -> int | None:
    """Choose the trial that is least far from its targets; None where all died."""
    lived = [place for place, each in enumerate(found) if not each.why]
    return min(lived, key=lambda place: found[place].total_off, default=None)
