"""Detection divided among processes by process key, with the same answers as one process gives.

`routing` says which shard has a key; `shared_block` holds the profiles that all of them see; `messages` and `columns`
are what goes over; `worker` runs in a shard, `process` holds one from outside, `crew` asks all of them and replaces
those that are lost; `merging` puts answers together, and `stage` runs the whole as an engine's `LayerStage`. The way in
is `eguard.agent.shards.stage.make_stage`. Nothing is imported here: every shard would pay for it when it starts.
"""
