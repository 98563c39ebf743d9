"""What a model said of each example, reduced to what metrics read, one file for each kind; a task names its own."""

from __future__ import annotations

from compressit.outputs.answers import Answers
from compressit.outputs.choices import Choices
from compressit.outputs.output import OUT_OF_REACH, Asked, Change, Output
from compressit.outputs.pairs import Pairs
from compressit.outputs.predictions import Predictions
from compressit.outputs.tags import Tags
from compressit.outputs.texts import Texts
from compressit.outputs.tokens import MaskedTokens, TokenScores

__all__ = [
    "OUT_OF_REACH",
    "Answers",
    "Asked",
    "Change",
    "Choices",
    "MaskedTokens",
    "Output",
    "Pairs",
    "Predictions",
    "Tags",
    "Texts",
    "TokenScores",
]
