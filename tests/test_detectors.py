"What other tools would say: each rule on a model where its answer is known"

from functools import cache

import pytest
import torch
from torch import nn

from spat_nb import Linf, get_data, zoo
from spat_nb.measure.detectors import (
    _incomplete,
    autoattack_flags,
    failure_indicators,
    gradient_norms,
)
from spat_nb.measure.faults import Dice, Times
from spat_nb.measure.faulty_gradients import Rounded

BALL = Linf(0.15)


@cache
def some(n=24):
    return get_data("digits", device="cpu").test.subset(n).tensors()


@cache
def net():
    return zoo.load("digits/standard/w16", "cpu").eval()


class Table(nn.Module):
    "Answers that depend on nothing: no pixel moves them"

    def forward(self, x):
        return (x * 0).flatten(1).sum(1, keepdim=True) + torch.arange(10.0)


def test_the_norm_of_the_gradient():
    x, y = some()
    assert gradient_norms(net(), x, y) == []
    assert gradient_norms(Table(), x, y) == ["zero"]
    # scaled so far that the loss of what is sure is 0
    assert gradient_norms(Times(net(), 1e4), x, y) == ["zero"]


def test_unavailable_is_the_share_without_gradient():
    x, y = some()
    assert failure_indicators(net(), x, y, BALL, steps=5)["unavailable gradients"] == 0
    rounded = failure_indicators(Rounded(net(), levels=8), x, y, BALL, steps=5)
    assert rounded["unavailable gradients"] == 1


def test_what_nothing_moves():
    x, _ = some()
    found = failure_indicators(Table(), x, torch.full((len(x),), 9), BALL, steps=5)
    assert found == {
        "unavailable gradients": 1,
        "unstable predictions": 0,
        "silent success": 0,
        "incomplete optimization": 0,
        "unconstrained failure": 1,
    }


def test_a_plain_network_falls_without_a_bound():
    x, y = some()
    found = failure_indicators(net(), x, y, BALL, steps=20)
    assert found["unconstrained failure"] == 0
    assert 0 < found["unstable predictions"] <= 1


@pytest.mark.parametrize(
    "rise, moves", [(torch.arange(50.0), True), (torch.arange(50.0).clamp(max=20), False)]
)
def test_incomplete_is_a_loss_that_still_moves(rise, moves):
    assert _incomplete(rise[:, None]).tolist() == [moves]
    # no scale matters, and a fall at the end is no move
    assert _incomplete(3 + 100 * rise[:, None]).tolist() == [moves]
    assert _incomplete(torch.cat([rise, rise.flip(0)])[:, None]).tolist() == [False]


def test_the_flags_of_autoattack():
    x, y = some()
    assert autoattack_flags(net(), x, y, BALL, queries=50) == []
    assert "random" in autoattack_flags(Dice(net()), x, y, BALL, queries=50)
