"""Executed notebooks, evidence packs, and the readiness gate."""
