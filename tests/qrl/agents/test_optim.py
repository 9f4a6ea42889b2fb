"""GroupedAdam: groups by lr_scale under one schedule, equal to plain Adam where nothing is scaled."""

import pytest
import torch

from qrl.agents.optim import GroupedAdam, LinearDecay


def parameters(scales):
    torch.manual_seed(0)
    found = [torch.nn.Parameter(torch.randn(3)) for _ in scales]
    for parameter, scale in zip(found, scales, strict=True):
        if scale is not None:
            parameter.lr_scale = scale
    return found


def descend(optimizer, variables, steps=5):
    for _ in range(steps):
        optimizer.zero_grad()
        sum((v**2).sum() for v in variables).backward()
        optimizer.step()


def test_unscaled_it_is_adam():
    ours, theirs = parameters([None, None]), parameters([None, None])
    descend(GroupedAdam(ours, lr=0.1), ours)
    descend(torch.optim.Adam(theirs, lr=0.1), theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_each_group_moves_at_its_own_rate():
    ours = parameters([1.0, 10.0])
    one, ten = parameters([None]), parameters([None, None])[1:]
    descend(GroupedAdam(ours, lr=0.01), ours)
    descend(torch.optim.Adam(one, lr=0.01), one)
    descend(torch.optim.Adam(ten, lr=0.1), ten)
    torch.testing.assert_close(ours[0], one[0])
    torch.testing.assert_close(ours[1], ten[0])


def test_the_base_rate_stays_the_schedules():
    ours = parameters([1.0, 10.0])
    optimizer = GroupedAdam(ours, lr=0.01)
    for group in optimizer.param_groups:  # what Stable-Baselines3 does before each update
        group["lr"] = 0.005
    descend(optimizer, ours, steps=1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.005, 0.005]
    assert optimizer.updates == 1


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_linear_decay_is_no_running_product(scale):
    # Peers multiply the already annealed rate each iteration; ours is initial * (1 - k / K) for each group.
    initial, iterations = 1e-3 * scale, 40
    decay = LinearDecay(initial)
    for k in range(iterations + 1):
        assert decay(1.0 - k / iterations) == pytest.approx(initial * (1.0 - k / iterations), abs=1e-12)
    assert decay(-0.01) == 0.0
