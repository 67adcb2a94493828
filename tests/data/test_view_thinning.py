import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fvgen.checks import InputError
from fvgen.data.view_thinning import thin_views

line = torch.tensor([[x, 0.0, 0.0] for x in (0, 1, 2, 3, 4, 10)])


def test_the_ends_stay_and_the_middle_of_the_gap_comes_next():
    assert thin_views(line, 2) == [0, 5]
    assert thin_views(line, 3) == [0, 4, 5]
    assert thin_views(line, 4) == [0, 2, 4, 5]


def test_all_photos_stay_when_as_many_are_asked_for():
    assert thin_views(line, 6) == thin_views(line, 99) == list(range(6))


def test_cameras_at_one_place_are_still_told_apart():
    assert thin_views(torch.zeros(5, 3), 3) == sorted(set(thin_views(torch.zeros(5, 3), 3)))


@given(st.lists(st.tuples(*[st.floats(-10, 10)] * 3), min_size=3, max_size=12), st.data())
def test_fewer_views_are_a_subset_of_more(positions, data):
    cameras = torch.tensor(positions)
    count = data.draw(st.integers(2, len(positions) - 1))
    fewer, more = thin_views(cameras, count), thin_views(cameras, count + 1)
    assert len(fewer) == count
    assert set(fewer) < set(more)


def test_one_view_is_refused():
    with pytest.raises(InputError, match="at least 2"):
        thin_views(line, 1)
