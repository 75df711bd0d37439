"""Signed bundles: manifest, provenance and the TUF repository that carries them."""

from eguard.bundle.client import BundleClient, VerifiedBundle
from eguard.bundle.keys import generate_keys, load_keys
from eguard.bundle.manifest import MANIFEST_NAME, PROVENANCE_NAME, Manifest, check_counts, check_files, describe_file
from eguard.bundle.provenance import build_statement, verify_statement
from eguard.bundle.repository import Publication, Repository

__all__ = [
    "MANIFEST_NAME",
    "PROVENANCE_NAME",
    "BundleClient",
    "Manifest",
    "Publication",
    "Repository",
    "VerifiedBundle",
    "build_statement",
    "check_counts",
    "check_files",
    "describe_file",
    "generate_keys",
    "load_keys",
    "verify_statement",
]
