"""Checks of the bundle's way: signatures, expiry, and whether this version understands what was signed."""

from __future__ import annotations

from typing import Final

from eguard.errors import BundleError, BundleExpiredError, BundleSignatureError, EguardError
from eguard.operations.check import Finding, failed, ok, skipped, warning
from eguard.operations.examination import Examination

_NO_REPOSITORY: Final = (
    "EGUARD_BUNDLE_REPOSITORY is not set, and no repository is where one is looked for: the agent detects without "
    "rules, indicators and classifier"
)
#: Days before expiry at which somebody should act: about half of what a renewal gives.
_WARN_DAYS: Final = {"root": 30.0, "targets": 14.0, "nightly": 7.0, "snapshot": 0.5, "timestamp": 0.5}
_REPLACE: Final = (
    "Replace the staged bundle with a validly signed one (eguard bundle publish where the keys are), then check it: "
    "eguard bundle verify --repository FOLDER --root FILE"
)
_REFRESH: Final = {
    "root": "Sign a new root with two of the three offline root keys.",
    "targets": "Publish with the release key: eguard bundle publish",
    "nightly": "Publish a retrained model: eguard bundle publish",
}
_REFRESH_ONLINE: Final = (
    "Renew it where the online keys are, and let a timer do so every 6 hours: eguard bundle refresh"
)


def _unseen(examination: Examination) -> str:
    """Return why there is no repository to look at."""
    if examination.settings.server and not examination.bundle.unasked:
        return f"{_NO_REPOSITORY}; the server had none to hand out when this machine was enrolled"
    return examination.bundle.unasked or _NO_REPOSITORY


def check_bundle_signature(examination: Examination) -> Finding:
    """Check that root, signatures, versions, digests and lengths of the repository verify."""
    look = examination.bundle
    if not look.repository:
        return skipped(_unseen(examination))
    if look.error is not None:
        return failed(look.error.message, _remedy(look.error))
    assert look.bundle is not None
    versions = ", ".join(f"{role} {version}" for role, version in sorted(look.bundle.versions.items()))
    words = (
        f"model {look.bundle.manifest.model_version}, {len(look.bundle.manifest.files)} files of {look.repository} "
        f"verify against {look.trust}; versions: {versions}"
    )
    if look.is_first_use:
        return warning(
            f"{words}; nothing vouches for that root (trust on first use)",
            "Set EGUARD_BUNDLE_ROOT to the root metadata that the release engineer handed out (1.root.json).",
        )
    return ok(words)


def _remedy(error: BundleError) -> str:
    if isinstance(error, BundleExpiredError):
        return f"{_REFRESH_ONLINE}. See bundle_expiry, and the check clock."
    if isinstance(error, BundleSignatureError):
        return f"Compare EGUARD_BUNDLE_ROOT with the root that was handed out at enrolment. {_REPLACE}"
    return error.remedy or f"Correct EGUARD_BUNDLE_REPOSITORY. {_REPLACE}"


def check_bundle_expiry(examination: Examination) -> Finding:
    """Check that the metadata of every role is valid for a while yet."""
    if not examination.bundle.repository:
        return skipped(_unseen(examination))
    days = examination.bundle.days_left
    if not days:
        return skipped("the repository's metadata cannot be read; see the check bundle_signature")
    words = ", ".join(f"{role} {left:.1f}" for role, left in days.items())
    late = [role for role, left in days.items() if left <= 0]
    if late:
        return failed(
            f"expired: {', '.join(late)} (days left: {words}); agents keep their last good bundle",
            f"{_REFRESH.get(late[0], _REFRESH_ONLINE)} See the check clock first.",
        )
    soon = [role for role, left in days.items() if left < _WARN_DAYS[role]]
    if soon:
        return warning(
            f"about to expire: {', '.join(soon)} (days left: {words})", _REFRESH.get(soon[0], _REFRESH_ONLINE)
        )
    return ok(f"days left: {words}")


def check_bundle_content(examination: Examination) -> Finding:
    """Check that every file of the bundle is understood, its counts agree, and its classifier may be used."""
    if not examination.bundle.repository:
        return skipped(_unseen(examination))
    bundle = examination.bundle.bundle
    if bundle is None:
        return skipped("nothing verified that could be read; see the check bundle_signature")
    from eguard.bundle.manifest import check_counts  # noqa: PLC0415 - numpy and scipy are not needed for other checks
    from eguard.detection.content import load_content  # noqa: PLC0415

    try:
        content = load_content(bundle.files)
        check_counts(bundle.manifest, content.counts)
    except EguardError as error:
        return failed(f"the bundle verifies, but cannot be used: {error.message}", error.remedy or _REPLACE)
    words = ", ".join(f"{count} in {name}" for name, count in sorted(content.counts.items()))
    if not bundle.manifest.promoted and not examination.settings.allow_unpromoted:
        return warning(
            f"counts agree ({words}), but the classifier missed a quality gate: agents use rules and indicators only",
            "Publish a bundle that passes the gates, or accept this one: EGUARD_ALLOW_UNPROMOTED=true",
        )
    return ok(f"counts agree: {words}")
