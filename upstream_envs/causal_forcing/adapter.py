"""Drives the official Causal-Forcing runner; run as ``python adapter.py job.json``."""

from runners.protocol import drive
from upstream_envs.causal_wan import CausalWanSide

if __name__ == "__main__":
    drive.drive(CausalWanSide)
