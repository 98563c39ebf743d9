"""What the original is known to reach, held against what it reaches here: a broken baseline flatters every ratio."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from compressit import metrics
from compressit.errors import DataError
from compressit.metrics import Evidence, MetricConfig
from compressit.recipe import Expectation
from compressit.recipe.quantities import parse, show
from compressit.report import bounds


def check(expected: Sequence[Expectation], configs: Mapping[str, MetricConfig], original: Evidence) -> None:
    """Raise DataError where the original is surely not what the recipe expects of it.

    Args:
        expected: Figures that the recipe declares.
        configs: The run's metrics, by the name that the recipe calls them.
        original: What was measured of the original.
    """
    for each in expected:
        config = configs[each.metric]
        unit = metrics.load(config.metric).UNIT
        wanted = parse(each.value, unit)
        value, sure = bounds.value(config, original)
        room = each.within * abs(wanted)
        if not math.isnan(value) and sure.low <= wanted + room and sure.high >= wanted - room:
            continue
        raise DataError(
            f"the original's {each.metric} is {show(value, unit)} here (95% sure between {show(sure.low, unit)} and "
            f"{show(sure.high, unit)}), and the recipe expects {show(wanted, unit)}; nothing was compressed",
            hint="look at the data's columns, labels and split and at the model's revision, or mend `expect`",
        )
