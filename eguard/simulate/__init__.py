"""Simulated fleets that drive the real code: agents that lie, encoded, stored and aggregated as real ones are."""
