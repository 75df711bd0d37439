"""Executed notebooks and evidence reports."""
