"""The evidence pack: a folder of plain files, a manifest with the SHA-256 of each, and a signature over it."""
