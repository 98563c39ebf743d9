"""Losses of distillation against the formulas, spelled out."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from compressit.algorithms import imitation


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_several_teachers_count_by_the_mean_of_their_softened_probabilities():
    one, two, student = (drawn(4, 3, seed=seed) for seed in range(3))
    both = imitation.together([one, two], 3.0)
    assert torch.allclose((both / 3).softmax(-1), ((one / 3).softmax(-1) + (two / 3).softmax(-1)) / 2)
    mean = (softmax(one.numpy() / 3, -1) + softmax(two.numpy() / 3, -1)) / 2
    by_hand = 9 * (mean * (np.log(mean) - log_softmax(student.numpy() / 3, -1))).sum(-1).mean()
    assert imitation.divergence(student, both, 3.0).item() == pytest.approx(by_hand, rel=1e-5)
    assert torch.equal(imitation.together([one], 3.0), one)


def test_relations_are_those_of_minilm_v2():
    student, teacher, heads, lengths = drawn(2, 5, 8, seed=1), drawn(2, 5, 12, seed=2), 4, [5, 3]
    mask = torch.tensor([[place < length for place in range(5)] for length in lengths])
    seen = mask[:, None, :] & mask[:, :, None]
    total, rows = 0.0, 0
    for text, length in enumerate(lengths):
        for place in range(length):
            rows += 1
            for head in range(heads):
                found = []
                for given in (student, teacher):
                    width = given.shape[-1] // heads
                    part = given[text, :length, head * width : (head + 1) * width].double().numpy()
                    found.append(log_softmax(part[place] @ part.T / math.sqrt(width), -1))
                total += (np.exp(found[1]) * (found[1] - found[0])).sum() / heads
    assert imitation.relations(student, teacher, heads, seen).item() == pytest.approx(total / rows, rel=1e-4)
    whole = torch.ones(2, 5, 5, dtype=torch.bool)
    assert imitation.relations(student, teacher, heads, None).item() == pytest.approx(
        imitation.relations(student, teacher, heads, whole).item(), rel=1e-5
    )


def test_padding_says_nothing():
    student, teacher = drawn(2, 5, 8, seed=1).requires_grad_(), drawn(2, 5, 8, seed=2)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    seen = mask[:, None, :] & mask[:, :, None]
    junk = teacher.masked_fill(~mask[..., None], 1e4)
    for loss in (imitation.relations(student, junk, 2, seen), imitation.states(student, junk, mask)):
        (slope,) = torch.autograd.grad(loss, student)
        assert bool(torch.isfinite(slope).all())
        assert bool((slope[~mask] == 0).all())
    assert torch.equal(imitation.states(student, junk, mask), imitation.states(student, teacher, mask))
    assert torch.allclose(imitation.relations(student, junk, 2, seen), imitation.relations(student, teacher, 2, seen))


def test_states_are_compared_whatever_their_size():
    state = drawn(2, 3, 8)
    assert imitation.states(state, 5 * state + 1, None).item() == pytest.approx(0, abs=1e-5)
    other = drawn(2, 3, 8, seed=4)
    norm = [(each - each.mean(-1, keepdim=True)) / each.std(-1, keepdim=True, correction=0) for each in (state, other)]
    assert imitation.states(state, other, None).item() == pytest.approx(
        (norm[0] - norm[1]).square().mean().item(), rel=1e-3
    )
