"""Entities read off tags, against seqeval."""

import random

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from compressit.algorithms.entities import spans, spelled

SCHEMES = {
    "IOB": ["O", *(f"{mark}-{kind}" for kind in ("PER", "LOC") for mark in "BI")],
    "IOBES": ["O", *(f"{mark}-{kind}" for kind in ("PER", "LOC") for mark in "BIES")],
}


@pytest.mark.parametrize("names", SCHEMES.values(), ids=SCHEMES)
def test_they_are_seqevals_whatever_the_tags_say(names):
    draw = random.Random(0)
    for _ in range(500):
        tags = draw.choices(names, k=draw.randint(0, 9))
        assert spans(tags) == get_entities(tags), tags


def test_schemes_of_other_letters_and_plain_types_are_spelled_alike():
    bmes = spelled(["O", "B-PER", "M-PER", "E-PER", "S-PER"])
    assert spans([bmes[tag] for tag in ("B-PER", "M-PER", "E-PER", "S-PER", "O")]) == [("PER", 0, 2), ("PER", 3, 3)]
    bilou = spelled(["O", "B-PER", "I-PER", "L-PER", "U-PER"])
    assert spans([bilou[tag] for tag in ("U-PER", "B-PER", "L-PER")]) == [("PER", 0, 0), ("PER", 1, 2)]
    plain = spelled(["O", "PER", "LOC"])
    assert spans([plain[tag] for tag in ("PER", "PER", "LOC", "O")]) == [("PER", 0, 1), ("LOC", 2, 2)]
