"""What operators decide about agents: policies, cohorts, and what follows from both."""

from eguard.policy.canary import BUCKETS, bucket_limit, canary_bucket, canary_buckets, deal_lines, in_canary
from eguard.policy.document import (
    DEFAULT_POLICY_ID,
    BaselineMode,
    PolicyDocument,
    check_percent,
    check_rollout_id,
    parse_policy_document,
)
from eguard.policy.effective import (
    DecidedBy,
    Direction,
    EffectiveControls,
    ServerAnswer,
    ServerVerdict,
    StartupControls,
    effective_controls,
)
from eguard.policy.signing import open_policy, policy_key_id, public_key_text, sign_policy

__all__ = [
    "BUCKETS",
    "DEFAULT_POLICY_ID",
    "BaselineMode",
    "DecidedBy",
    "Direction",
    "EffectiveControls",
    "PolicyDocument",
    "ServerAnswer",
    "ServerVerdict",
    "StartupControls",
    "bucket_limit",
    "canary_bucket",
    "canary_buckets",
    "check_percent",
    "check_rollout_id",
    "deal_lines",
    "effective_controls",
    "in_canary",
    "open_policy",
    "parse_policy_document",
    "policy_key_id",
    "public_key_text",
    "sign_policy",
]
