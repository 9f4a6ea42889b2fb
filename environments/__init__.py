"""Beam lines and short tasks as Gymnasium environments; importing this package registers them under `qrl/`.

Each environment's class docstring is its specification: spaces with units and sources, equations, rewards,
start state, end of an episode, arguments, version history. The import is light (no physics is loaded until an
environment is made), and nothing here knows torch or a quantum library.
"""

import gymnasium as gym

__part_of__ = "qrl"
__all__: list[str] = []

# The step limit is part of each environment, because AwakeSteering's depends on its variant; Gymnasium's own
# `max_episode_steps` therefore stays unset, and where given it is a second limit on top (scalar and vector
# alike).
gym.register(
    id="qrl/TargetSteering-v0",
    entry_point="environments.target_steering:TargetSteering",
    vector_entry_point="environments.target_steering:TargetSteeringVector",
)
gym.register(
    id="qrl/AwakeSteering-v0",
    entry_point="environments.awake_steering:AwakeSteering",
    vector_entry_point="environments.awake_steering:AwakeSteeringVector",
)
gym.register(
    id="qrl/CHSHGame-v0",
    entry_point="environments.chsh_game:CHSHGame",
    vector_entry_point="environments.chsh_game:CHSHGameVector",
)
gym.register(
    id="qrl/FrequencyBandit-v0",
    entry_point="environments.frequency_bandit:FrequencyBandit",
    vector_entry_point="environments.frequency_bandit:FrequencyBanditVector",
)
gym.register(
    id="qrl/AntennaSelection-v0",
    entry_point="environments.antenna_selection:AntennaSelection",
    vector_entry_point="environments.antenna_selection:AntennaSelectionVector",
)
