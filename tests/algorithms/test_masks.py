"""Masks against brute force on small cases."""

import itertools

import pytest
import torch

from compressit.algorithms import masks


def brute_smallest(scores, count):
    """Sort by (score, position) in plain Python."""
    order = sorted(range(len(scores)), key=lambda place: (scores[place], place))
    return {*order[:count]}


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_smallest_marks_what_sorting_would(share):
    scores = torch.tensor([[0.3, 0.1, 0.1, 0.5], [0.1, 0.9, 0.0, 0.1], [0.1, 0.1, 0.2, 0.7]])
    (mask,) = masks.smallest([scores], share)
    wanted = brute_smallest(scores.flatten().tolist(), round(share * 12))
    assert {*mask.flatten().nonzero().flatten().tolist()} == wanted


def test_smallest_over_several_tensors_together():
    small, large = torch.tensor([1.0, 2.0]), torch.tensor([[3.0, 4.0], [5.0, 0.5]])
    first, second = masks.smallest([small, large], 0.5)
    assert first.tolist() == [True, True]
    assert second.tolist() == [[False, False], [False, True]]


def test_smallest_takes_the_zeros_there_are_first():
    scores = torch.rand(64, generator=torch.Generator().manual_seed(0)) + 0.1
    scores[::3] = 0
    (mask,) = masks.smallest([scores], 0.5)
    assert int(mask.sum()) == 32
    assert bool(mask[scores == 0].all())


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (1, 2)])
def test_n_of_m_keeps_the_best_choice_of_every_group(n, m):
    scores = torch.rand(4, 16, generator=torch.Generator().manual_seed(n * m))
    mask = masks.n_of_m(scores, n, m)
    for row, start in itertools.product(range(4), range(0, 16, m)):
        group, dropped = scores[row, start : start + m], mask[row, start : start + m]
        best = max(itertools.combinations(range(m), n), key=lambda kept: sum(group[list(kept)].tolist()))
        assert {*(~dropped).nonzero().flatten().tolist()} == {*best}


def test_n_of_m_breaks_ties_by_position():
    assert masks.n_of_m(torch.zeros(1, 4), 2, 4).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("share", [0.0001, 0.3, 0.5, 0.999])
@pytest.mark.parametrize("steps", [7, 1000000])
def test_a_ranking_in_passes_marks_what_one_look_at_everything_would(share, steps):
    draw = torch.Generator().manual_seed(0)
    scores = [torch.randint(0, steps, (size, 7), generator=draw).float() / 3 for size in (3, 50, 11)]
    found = masks.Ranking(share)
    for _ in range(found.PASSES):
        for index, score in enumerate(scores):
            found.see(str(index), score)
        found.narrow()
    marked = [found.mark(str(index), score) for index, score in enumerate(scores)]
    assert all(torch.equal(one, other) for one, other in zip(marked, masks.smallest(scores, share), strict=True))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.45, 0.5])
def test_on_the_way_to_a_pattern_the_lowest_go_that_it_has_no_room_for(share):
    scores = torch.rand(4, 8, generator=torch.Generator().manual_seed(1))
    going = [place for place, goes in enumerate(masks.n_of_m(scores, 2, 4).flatten().tolist()) if goes]
    wanted = sorted(going, key=lambda place: scores.flatten()[place].item())[: round(share * 32)]
    found = masks.towards_n_of_m(scores, 2, 4, share)
    assert {*found.flatten().nonzero().flatten().tolist()} == {*wanted}


def test_on_the_way_to_a_pattern_nothing_goes_beyond_it():
    assert torch.equal(masks.towards_n_of_m(torch.eye(4), 1, 2, 0.9), masks.n_of_m(torch.eye(4), 1, 2))


def test_the_cubic_schedule_is_the_formula_of_the_paper():
    first, last, updates = 0.25, 0.9, 100
    for t in range(0, updates + 1, 10):
        wanted = last + (first - last) * (1 - t / updates) ** 3
        assert masks.cubic(first, last, t / updates) == pytest.approx(wanted)
    assert (masks.cubic(first, last, 0), masks.cubic(first, last, 1)) == (first, last)
