"""Sensors: what happens on this machine, as batches of events, behind one protocol."""
