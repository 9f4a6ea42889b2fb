"""Trained agents on other backends: evaluation, the ladder from simulation to a device, and paid submissions."""
