"""The estimators: pure functions and small classes over arrays; no input or output, no logging, no clock."""
