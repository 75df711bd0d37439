"""What runs on an endpoint beside the engine: the runtime, its store of alerts, and network isolation."""
