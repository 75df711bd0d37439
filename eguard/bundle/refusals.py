"""What TUF's refusals are called here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    EqualVersionNumberError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.serialization import DeserializationError
from urllib3.exceptions import HTTPError

from eguard.errors import (
    BundleDigestError,
    BundleError,
    BundleExpiredError,
    BundleRollbackError,
    BundleSignatureError,
)


@contextlib.contextmanager
def as_bundle_errors() -> Iterator[None]:
    """Translate what is raised inside into eGuard's error tree.

    Raises
    ------
    BundleExpiredError, BundleRollbackError, BundleSignatureError, BundleDigestError
        TUF refused.
    BundleError
        The repository cannot be reached or read.
    """
    try:
        yield
    except ExpiredMetadataError as error:
        raise BundleExpiredError(
            f"the bundle repository is stale: {error}",
            remedy="Run `eguard bundle refresh` where the online keys are; agents keep their last good bundle.",
        ) from error
    except (BadVersionNumberError, EqualVersionNumberError) as error:
        raise BundleRollbackError(
            f"the repository offers an older version than this machine has seen: {error}"
        ) from error
    except UnsignedMetadataError as error:
        raise BundleSignatureError(f"the repository's metadata is not signed by the trusted keys: {error}") from error
    except LengthOrHashMismatchError as error:
        raise BundleDigestError(f"the metadata differ from what was signed: {error}") from error
    except (DeserializationError, RepositoryError) as error:
        raise BundleSignatureError(f"the repository's metadata is damaged: {error}") from error
    except (DownloadError, HTTPError) as error:
        raise BundleError(f"the bundle repository cannot be read: {error}") from error
