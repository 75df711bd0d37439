"""Profiles of ordinary behaviour per process key, and what a fleet's prior adds to them."""
