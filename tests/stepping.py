"""Steps done to a model without a recipe, recorded as a run records them."""

from pathlib import Path
from typing import Any

from compressit import steps
from compressit.model import Model
from compressit.progress import Silent
from compressit.report import StepRecord
from compressit.steps import StepContext


def done(model: Model, asked: list[tuple[str, dict[str, Any]]], scratch: Path) -> list[StepRecord]:
    """Do steps that need no data, by name with their fields, one after the other."""
    found = []
    for name, fields in asked:
        context = StepContext(train=None, calibration=None, teacher=None, device="cpu", seed=0, progress=Silent(),
                              scratch=scratch / name)  # fmt: skip
        module = steps.load(name)
        notes = module.run(model, module.Config(step=name, **fields), context)
        found.append(StepRecord(step=name, config={}, notes=dict(notes), seconds=0, parameters=1))
    return found
