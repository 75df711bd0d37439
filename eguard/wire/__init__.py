"""Bodies that agents and servers exchange, and the process key."""
