"""What a model folder may hold, looked at as bytes and text before a library opens it: a stranger may have made it."""

from __future__ import annotations

from compressit.intake.code import check_code
from compressit.intake.headers import BITS, header
from compressit.intake.places import check_places
from compressit.intake.settings import check_counts, described
from compressit.intake.shards import check_shards, lacking

__all__ = ["BITS", "check_code", "check_counts", "check_places", "check_shards", "described", "header", "lacking"]
