"""Fill in what a recipe leaves open: try, judge on a tuning split, learn; the best that meets all targets is chosen.

Every trial is a `compressit apply` of its own, so that one that dies is a trial that failed and nothing more. What the
evaluation split says is never looked at here.
"""

from __future__ import annotations

from compressit.search.checking import check, tell_splits
from compressit.search.finding import Budget, meet, search
from compressit.search.found import Found, missed
from compressit.search.state import forget
from compressit.search.trials import Place, set_to
from compressit.search.tuning import tuned

__all__ = ["Budget", "Found", "Place", "check", "forget", "meet", "missed", "search", "set_to", "tell_splits", "tuned"]
