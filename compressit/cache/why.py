"""Why a step's checkpoint is not kept: what differs from the nearest one that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compressit.cache.entries import Entry
from compressit.cache.keys import Made


def nearest(made: Made, kept: Sequence[Entry]) -> Entry | None:
    """Of the checkpoints of the same step, give the one of which the fewest fields differ; of like ones, the latest."""
    same = [entry for entry in kept if entry.made.get("step") == made["step"]]
    return min(same, key=lambda entry: (len(differences(made, entry.made)), -entry.used), default=None)


def began_alike(made: Made, other: Made) -> bool:
    """Tell whether both were made of the very same model."""
    return bool(_flat(made)["before"] == _flat(other)["before"])


def differences(made: Made, other: Made) -> list[str]:
    """Say field by field how one differs from another, the other's value first.

    What isn't known yet, None in a digest's place, is left out.
    """
    new, old = _flat(made), _flat(other)
    names = [name for name in sorted(new.keys() | old.keys()) if new.get(name, "") is not None]
    return [_told(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


SAID = {
    "before": "what it began from differs",
    "code": "the code of the step is another version",
    "data.calibration": "the calibration data is other data",
    "data.train": "the training data is other data",
    "models": "a model that it learns from is another",
}


def _told(name: str, old: Any, new: Any) -> str:
    if name in SAID:
        return SAID[name]
    return f"{name.rpartition('.')[2]} was {_shown(old)}, is {_shown(new)}"


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)


def _flat(made: Made) -> dict[str, Any]:
    """Give fields of fields names of their own; None is for what isn't known."""
    found: dict[str, Any] = {"before": made.get("model", made.get("after"))}
    found["models"] = None if None in made["models"] else list(made["models"])
    for name in ("step", "code", "task", "max_length", "seed", "device", "format"):
        found[name] = made[name]
    found["processes"] = made.get("processes", 1)
    for name in ("config", "data", "fields", "versions"):
        found |= {f"{name}.{inner}": value for inner, value in made[name].items()}
    return found
