"""The repository that agents are served, as promotions read and change it; its refusals are the API's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from eguard.bundle.promotion import Served, StagedCandidate, publish_models, read_served
from eguard.clock import Clock
from eguard.errors import BundleDigestError, BundleError, BundleExpiredError, ServerRefusalError

#: Share of agents that score with a candidate in the shadow, unless they run it.
SHADOW_PERCENT = 100.0


class ServedBundle:
    """The repository and the online keys.

    Parameters
    ----------
    repository, keys : Path
        Folders of the repository and of the keys nightly, snapshot and timestamp.
    clock : Clock
        Expiry dates count from its time.
    """

    def __init__(self, repository: Path, keys: Path, clock: Clock) -> None:
        self._repository = repository
        self._keys = keys
        self._clock = clock

    @property
    def is_there(self) -> bool:
        """Whether a release was ever published."""
        return (self._repository / "metadata" / "timestamp.json").exists()

    def read(self) -> Served:
        """Return what agents are offered.

        Raises
        ------
        ServerRefusalError
            409 ``no_bundles``: nothing was published; 409 ``bundle_repository``: it is damaged.
        """
        if not self.is_there:
            raise ServerRefusalError(
                409,
                "no_bundles",
                f"no bundle was published in {self._repository}; publish a first one with the release key: "
                "eguard bundle publish",
            )
        with _refusals():
            return read_served(self._repository, datetime.fromtimestamp(self._clock.now(), UTC))

    def publish(
        self, stable: Mapping[str, bytes], candidate: Mapping[str, bytes] | None, percent: float
    ) -> dict[str, int]:
        """Offer `stable`, and `candidate` to a share of the agents; return the versions of the metadata.

        Raises
        ------
        ServerRefusalError
            409 ``bundle_expired``, ``other_release`` or ``bundle_repository``; agents are offered what they were.
        """
        staged = None if candidate is None else StagedCandidate(candidate, percent, SHADOW_PERCENT)
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        with _refusals():
            return publish_models(self._repository, self._keys, stable, staged, now=now).versions


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except BundleError as error:
        codes = {BundleExpiredError: "bundle_expired", BundleDigestError: "other_release"}
        message = f"{error.message}. {error.remedy}" if error.remedy else error.message
        raise ServerRefusalError(409, codes.get(type(error), "bundle_repository"), message) from error
    except OSError as error:
        message = f"the bundle repository cannot be written: {error.strerror or error}"
        raise ServerRefusalError(409, "bundle_repository", message) from error
