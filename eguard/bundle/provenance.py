"""Where a bundle came from: an in-toto Statement with SLSA provenance, and its signed DSSE envelope.

The statement names every target by SHA-256, every input by SHA-256, the parameters and the revision of the code. It
holds no time and no machine, so that a build repeated elsewhere gives the same bytes.

References
----------
in-toto Attestation Framework, Statement v1; SLSA v1.0, provenance; DSSE v1.0.2.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, Key

from eguard.errors import BundleSignatureError

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
BUILD_TYPE: Final = "https://slsa.dev/provenance/v1#dvc-pipeline"


def build_statement(
    *,
    subjects: Mapping[str, bytes],
    inputs: Mapping[str, str],
    parameters: Mapping[str, Any],
    revision: str,
    version: str,
) -> dict[str, Any]:
    """Return the provenance of a build.

    Parameters
    ----------
    subjects : mapping of name to bytes
        The files that were built.
    inputs : mapping of path to SHA-256 in hexadecimal
        Every file that went in.
    parameters : mapping
        The pipeline's parameters.
    revision : str
        Revision of the code, as version control names it.
    version : str
        eGuard's version.
    """
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": name, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}
            for name, data in sorted(subjects.items())
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": dict(parameters),
                "internalParameters": {"revision": revision, "eguard": version},
                "resolvedDependencies": [
                    {"name": name, "digest": {"sha256": digest}} for name, digest in sorted(inputs.items())
                ],
            },
            "runDetails": {"builder": {"id": "eguard-pipeline"}},
        },
    }


def sign_statement(statement: bytes, signers: Sequence[CryptoSigner]) -> bytes:
    """Wrap a statement's bytes into a DSSE envelope signed by every signer."""
    envelope = Envelope(statement, PAYLOAD_TYPE, {})
    for signer in signers:
        envelope.sign(signer)
    return json.dumps(envelope.to_dict(), sort_keys=True, indent=1).encode() + b"\n"


def verify_statement(envelope_bytes: bytes, keys: Sequence[Key], threshold: int = 1) -> dict[str, Any]:
    """Return the statement inside an envelope once `threshold` of `keys` have signed it.

    Raises
    ------
    BundleSignatureError
        The envelope is malformed or too few of the keys have signed it.
    """
    try:
        envelope = Envelope.from_dict(json.loads(envelope_bytes))
        envelope.verify(list(keys), threshold)
        statement: dict[str, Any] = json.loads(envelope.payload)
    except (VerificationError, AttributeError, ValueError, KeyError, TypeError) as error:
        raise BundleSignatureError(f"the bundle's provenance is not properly signed: {error}") from error
    return statement
