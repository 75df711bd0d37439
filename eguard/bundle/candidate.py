"""The candidate: a second release beside the stable one, for a share of the agents.

It is listed by a target of its own, which the nightly key signs: the digest of its manifest, and how large a share of
the agents runs it or scores with it beside the model in use. Its files of ``models/`` lie beside the stable ones under
names that begin with ``candidate-``; rules, indicators and feature schema are those of the release key, for both. An
agent that knows nothing of candidates never asks for these names.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from eguard.errors import BundleDigestError
from eguard.wire.canonical import canonical_json

LISTING_NAME: Final = "models/candidate.json"
LISTING_FORMAT: Final = 1
#: What the nightly key may sign.
MODELS_FOLDER: Final = "models/"
_STAGED_PREFIX: Final = "candidate-"

Percent = Annotated[float, Meta(ge=0.0, le=100.0)]


class CandidateListing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which candidate there is, and for whom.

    Attributes
    ----------
    manifest_sha256 : str
        Digest of its manifest, which names every file.
    model_version : str
        For logs; the manifest's counts.
    percent : float
        Share of agents that run it.
    shadow_percent : float
        Share of agents that score with it beside the model in use; those who run it do not.
    """

    format: int = LISTING_FORMAT
    manifest_sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    model_version: str
    percent: Percent
    shadow_percent: Percent

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form."""
        return canonical_json(msgspec.to_builtins(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> CandidateListing:
        """Read a listing.

        Raises
        ------
        BundleDigestError
            The bytes are no listing of a format that this version reads.

        Examples
        --------
        >>> CandidateListing.from_bytes(b'{"format": 2, "waves": []}')
        Traceback (most recent call last):
            ...
        eguard.errors.BundleDigestError: the candidate's listing has format 2; this version reads 1
        """
        check_format(data, LISTING_FORMAT, "the candidate's listing")
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise BundleDigestError(f"the candidate's listing cannot be read: {error}") from error


class _Formatted(msgspec.Struct):
    format: int


def check_format(data: bytes, known: int, what: str) -> None:
    """Refuse a document of another format by its number, before its fields are looked at: later ones may have more.

    Raises
    ------
    BundleDigestError
        The format is another one, or the bytes are no document.
    """
    try:
        found = msgspec.json.decode(data, type=_Formatted).format
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleDigestError(f"{what} cannot be read: {error}") from error
    if found != known:
        raise BundleDigestError(
            f"{what} has format {found}; this version reads {known}",
            remedy="Update eGuard on this machine before it takes newer bundles.",
        )


def is_of_models(name: str) -> bool:
    """Return whether a file of a bundle is signed by the nightly key."""
    return name.startswith(MODELS_FOLDER)


def staged_name(name: str) -> str:
    """Return the name of the target that holds a candidate's file.

    Examples
    --------
    >>> staged_name("models/calibration.json"), staged_name("rules.json")
    ('models/candidate-calibration.json', 'rules.json')
    """
    return f"{MODELS_FOLDER}{_STAGED_PREFIX}{name.removeprefix(MODELS_FOLDER)}" if is_of_models(name) else name
