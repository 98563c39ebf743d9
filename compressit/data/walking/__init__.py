"""The walk: a transformer's blocks in order, each with the inputs that it will really see."""

from compressit.data.walking.blocks import Block, How, walk
from compressit.data.walking.passes import Group
from compressit.data.walking.samples import ordinary, samples

__all__ = ["Block", "Group", "How", "ordinary", "samples", "walk"]
