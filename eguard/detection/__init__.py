"""The engine that agents run live and replay runs on recordings: layers, features, model, gate, explanations."""
