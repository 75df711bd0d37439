"""Signed bundles: manifest, provenance and the TUF repository that carries them."""
