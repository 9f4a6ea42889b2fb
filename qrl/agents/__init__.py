"""Agents: Stable-Baselines3's algorithms with networks of ours, and those it has not."""
