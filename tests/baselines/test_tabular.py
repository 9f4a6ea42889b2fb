"""The table: one number a state, nothing shared between states, and Q-learning that reaches the optimum."""

import numpy as np
import pytest
import torch

from baselines import Tabular


def test_a_row_a_state_and_no_state_moves_another():
    table = Tabular(5, 3)
    one_hot = torch.eye(5)
    assert torch.equal(table(one_hot), torch.zeros(5, 3))
    table(one_hot[[2]]).sum().backward()
    assert torch.equal(table.table.grad, torch.tensor([[0.0], [0.0], [1.0], [0.0], [0.0]]).expand(5, 3))


def test_q_learning_on_a_chain_finds_the_exact_values():
    """Four states in a row, reward 1 at the right end, discount 0.5: Q*(s, right) = 0.5^(2 - s)."""
    table = Tabular(4, 2)
    optimizer = torch.optim.SGD(table.parameters(), lr=1.0)
    state, action = map(torch.from_numpy, np.meshgrid(np.arange(3), np.arange(2), indexing="ij"))
    state, action = state.reshape(-1), action.reshape(-1)
    following = torch.clamp(state + 2 * action - 1, 0)
    eye = torch.eye(4)
    for _ in range(40):
        with torch.no_grad():
            bootstrap = table(eye[following]).max(1).values * (following < 3)
            target = (following == 3).float() + 0.5 * bootstrap
        loss = 0.5 * ((table(eye[state]).gather(1, action[:, None])[:, 0] - target) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    expected = torch.tensor([[0.125, 0.25], [0.125, 0.5], [0.25, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(table.table.detach(), expected)


def test_a_wrong_size_is_named():
    with pytest.raises(ValueError, match=r"^n_states: 0 is below 1"):
        Tabular(0, 2)
    with pytest.raises(TypeError, match=r"^n_outputs: "):
        Tabular(2, 1.5)
