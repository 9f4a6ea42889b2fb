"""GroupedAdam: groups by lr_scale under one schedule, equal to plain Adam where nothing is scaled."""

import pytest
import torch

from qrl.agents.optim import GroupedAdam, LinearDecay, clip_gradients


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


def one_step(optimizer, variables, skip=None):
    optimizer.zero_grad()
    sum((v**3).sum() for v in variables if v is not skip).backward()
    optimizer.step()


@pytest.mark.parametrize("settings", [{}, {"amsgrad": True}, {"eps": 1e-5, "weight_decay": 0.1}])
def test_the_short_step_is_torchs_fused_step(settings):
    scales = [1.0, 3.0, 1.0]
    ours, theirs = parameters(scales), parameters(scales)
    short = GroupedAdam(ours, lr=0.01, **settings)
    groups = [{"params": [theirs[0], theirs[2]]}, {"params": [theirs[1]], "lr": 0.01 * 3.0}]
    long = torch.optim.Adam(groups, lr=0.01, fused=True, **settings)
    for count in range(1, 9):
        # one parameter has no gradient now and then: its step count and moments must stand still
        skip = 1 if count in (1, 5) else None
        one_step(short, ours, None if skip is None else ours[skip])
        one_step(long, theirs, None if skip is None else theirs[skip])
        if count == 3:
            short.load_state_dict(short.state_dict())
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b)
            for key, value in long.state[b].items():
                assert torch.equal(short.state[a][key], value), key
    assert short.updates == 8
    assert [float(short.state[p]["step"]) for p in ours] == [8.0, 6.0, 8.0]


@pytest.mark.parametrize("max_norm", [0.1, 1e6])
def test_gradients_are_clipped_as_torch_clips_them(max_norm):
    ours, theirs = parameters([None] * 4), parameters([None] * 4)
    for variables in (ours, theirs):
        sum((v**2).sum() for v in variables[:3]).backward()
    clip_gradients(ours, max_norm)
    torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    for a, b in zip(ours[:3], theirs[:3], strict=True):
        assert torch.equal(a.grad, b.grad)
    assert ours[3].grad is None


def test_hooks_are_called_once_a_step():
    descend(torch.optim.Adam(plain := parameters([None]), lr=0.1), plain, steps=1)  # this wraps Adam's step
    ours, seen = parameters([1.0, 10.0]), []
    optimizer = GroupedAdam(ours, lr=0.01)
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    descend(optimizer, ours, steps=3)
    assert seen == ["before", "after"] * 3
