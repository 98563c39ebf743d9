"""Marian (Junczys-Dowmunt et al. 2018, arXiv:1804.00344): BART's blocks; its positions are computed for one width."""

from __future__ import annotations

from dataclasses import replace

from compressit.anatomy.families import bart

FAMILY = replace(bart.FAMILY, width=replace(bart.FAMILY.width, computed=True))
