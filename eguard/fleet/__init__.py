"""What agents reported: tables, the seq-guarded store and robust aggregation."""
