"""ResNet (He et al. 2015, arXiv:1512.03385): two or three convolutions in a block, each with its batch norm."""

from __future__ import annotations

from compressit.anatomy.describing import Between, Family, Stack


def _between(number: int) -> Between:
    up, down = f"layer.{number}", f"layer.{number + 1}"
    return Between(f"{up}.convolution", f"{up}.normalization", f"{down}.convolution", f"{down}.normalization")


WIDENS = "it takes pictures to the size and width of its stage"
STAGES = Stack("encoder.stages.*.layers", depth="depths", stays=WIDENS, between=(_between(0), _between(1)), staged=True)
FAMILY = Family((STAGES,), headless=True)
