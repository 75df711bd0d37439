"""The layer-5 feature contract: what each of the 43 columns of a feature row means, and nothing else.

The schema file of a bundle, its hash, the reference page and the order of the extractor's output all come from
`FEATURES`. A model names the version and the hash it was trained for; a row of another contract is refused. Extensions
are appended under a new version, never inserted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final

from eguard.wire.canonical import canonical_sha256

CONTRACT_NAME: Final = "eguard-layer5-features"
CONTRACT_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Feature:
    """One column: its place, its name, what it is, who supplies it, and with which columns it is left out in ablations.

    `source` is ``event`` (the record itself), a layer or store of the engine, ``context`` (the host's past alerts),
    ``fleet`` (the bundle's fleet tables), ``server`` (0 on an agent) or ``model`` (tables of the model).
    """

    index: int
    name: str
    definition: str
    source: str
    group: str


# name, definition, source, group; the place in this list is the index.
_TABLE: Final[tuple[tuple[str, str, str, str], ...]] = (
    ("z1_ioc_hit", "1 if an indicator (file hash, domain, address) matches exactly", "indicators", "layers"),
    (
        "z2_temporal_count",
        "rule matches on this event and its process in the last 60 s, min(n, 3)/3",
        "rules",
        "layers",
    ),
    ("z3_anomaly_high", "1 if the window's KL lies above the process key's high threshold", "windows", "layers"),
    ("z3_anomaly_med", "1 if the window's KL lies above the process key's medium threshold", "windows", "layers"),
    (
        "z4_killchain_count",
        "distinct ATT&CK tactics matched in this process tree within 1 h, min(n, 3)/3",
        "rules",
        "layers",
    ),
    ("yara_hit_count", "YARA matches on the file, min(n, 5)/5; 0 where no engine is loaded", "yara", "layers"),
    ("string_sig_count", "string signatures in the command line, min(n, 5)/5", "prefilter", "layers"),
    (
        "event_class_risk",
        (
            "smoothed share of attacks among adjudicated events of this class; fitted by training fold, carried by the "
            "model, 0 for classes that are not counted"
        ),
        "model",
        "fitted",
    ),
    ("uid_is_root", "1 if the user is root, SYSTEM or elevated", "event", "event"),
    (
        "dst_port_risk",
        "0 without destination port; else r/(R + 2) for the port's rank r among the fleet's R ports, R + 1 if unknown",
        "fleet",
        "fleet",
    ),
    ("has_command_line", "1 if there is a command line", "event", "text"),
    ("cmdline_length_norm", "min(bytes of the command line/500, 1)", "event", "text"),
    ("prefilter_hit", "1 if any cheap prefilter (substring automaton) fired", "prefilter", "layers"),
    ("multi_layer_count", "layers that fired, min(n, 4)/4", "engine", "layers"),
    (
        "cmdline_renyi_h2",
        "Renyi-2 entropy of the command line's bytes in bits/8, for command lines of 20 bytes and more, else 0",
        "event",
        "text",
    ),
    ("cmdline_compression", "compressed/raw length of the command line (zlib, level 1), at most 1", "event", "text"),
    ("cmdline_min_entropy", "min-entropy of the command line's bytes in bits/8", "event", "text"),
    (
        "cmdline_entropy_gap",
        "(Shannon entropy - min-entropy) of the command line's bytes in bits/4, at most 1",
        "event",
        "text",
    ),
    (
        "dns_entropy",
        "Shannon entropy of the bytes of the queried name's first label, lower case, in bits/log2(36), at most 1",
        "event",
        "text",
    ),
    ("event_size_norm", "min(bytes of the event record/4096, 1)", "event", "event"),
    (
        "container_risk",
        "1 for a container escape or a privileged container, 0.5 in a container, else 0",
        "event",
        "event",
    ),
    ("file_path_entropy", "Shannon entropy of the file path's bytes in bits/8", "event", "text"),
    ("file_path_depth", "separators (/ and \\) in the file path, min(n, 10)/10", "event", "text"),
    (
        "behavioral_alarm_count",
        (
            "drift and rate alarms of this process key in the last hour, min(n, 5)/5; for alerts of other engines "
            "those of their network's rules (0 on an agent)"
        ),
        "drift",
        "layers",
    ),
    ("z1_z2_interaction", "z1_ioc_hit * z2_temporal_count", "engine", "layers"),
    ("z1_z4_interaction", "z1_ioc_hit * z4_killchain_count", "engine", "layers"),
    ("anomaly_behavioral", "z3_anomaly_high * multi_layer_count", "engine", "layers"),
    ("tree_depth", "depth of the process in its tree, min(d, 10)/10", "process tree", "tree"),
    ("tree_breadth", "live children of the parent, log2(1 + n)/8, at most 1", "process tree", "tree"),
    (
        "child_entropy",
        "entropy of the names of the parent's children in bits/log2(number of children), 0 below two children",
        "process tree",
        "tree",
    ),
    (
        "spawn_rate",
        "children the parent started in the last 60 s, log2(1 + n)/8, at most 1",
        "process tree",
        "tree",
    ),
    (
        "rare_parent_child_score",
        "1 - (c + 1/2)/(P + 1): c times the fleet saw this parent start this child, P times start anything",
        "fleet",
        "fleet",
    ),
    ("c2_beacon_mi", "debiased mutual information of the destination in bits/3, at most 1", "beacons", "beacon"),
    ("beacon_periodicity", "periodicity score of the destination", "beacons", "beacon"),
    (
        "rule_rarity_host",
        (
            "1 - (m + 1/2)/(M + 1): m earlier clock minutes in which this rule (or event key) alerted on this host, "
            "M earlier minutes in which anything did"
        ),
        "context",
        "context",
    ),
    (
        "rule_rarity_fleet",
        "1 - (k + 1/2)/(H + 1): k of the fleet's H hosts of the last 7 days have shown this rule (or event key)",
        "fleet",
        "fleet",
    ),
    (
        "rule_burst",
        "earlier alerts of this rule on this host in the last 60 s, log2(1 + n)/12, at most 1",
        "context",
        "context",
    ),
    ("distinct_rules", "distinct rules on this host in the last 300 s, min(n, 16)/16", "context", "context"),
    (
        "silence_before",
        (
            "log1p(s)/log1p(7 days), at most 1: s seconds without this rule on this host before its present run of "
            "alerts (gaps below 60 s); 1 if the run is the first"
        ),
        "context",
        "context",
    ),
    (
        "detector_agreement",
        "distinct detectors that fired on this host in the last 300 s, min(n, 4)/4",
        "context",
        "context",
    ),
    (
        "hour_rarity",
        (
            "1/(1 + 168 s): s smoothed share of the host's active minutes in this hour of the week (UTC), by hours "
            "lived through; 0.5 in an average hour"
        ),
        "context",
        "context",
    ),
    (
        "rule_precision_prior",
        (
            "smoothed share of true positives among adjudications of this rule made before the event; in training "
            "never those of the row's own network or host group; carried by the model"
        ),
        "model",
        "fitted",
    ),
    (
        "fleet_cooccurrence",
        "other hosts that showed this rule in the last 300 s, log2(1 + n)/8, at most 1; 0 on an agent",
        "server",
        "fleet",
    ),
)

FEATURES: Final[tuple[Feature, ...]] = tuple(Feature(index, *row) for index, row in enumerate(_TABLE))
FEATURE_NAMES: Final[tuple[str, ...]] = tuple(feature.name for feature in FEATURES)
FEATURE_INDEX: Final[dict[str, int]] = {feature.name: feature.index for feature in FEATURES}
N_FEATURES: Final = len(FEATURES)


def feature_groups() -> dict[str, tuple[str, ...]]:
    """Return the names of each group of features, in order of first appearance.

    Examples
    --------
    >>> feature_groups()["beacon"]
    ('c2_beacon_mi', 'beacon_periodicity')
    """
    groups: dict[str, tuple[str, ...]] = {}
    for feature in FEATURES:
        groups[feature.group] = (*groups.get(feature.group, ()), feature.name)
    return groups


def contract() -> dict[str, Any]:
    """Return the contract as the JSON object that a bundle carries as ``feature-schema.json``."""
    return {
        "name": CONTRACT_NAME,
        "version": CONTRACT_VERSION,
        "dtype": "float64",
        "missing_values": False,
        "features": [{**asdict(feature), "range": [0.0, 1.0]} for feature in FEATURES],
    }


@cache
def contract_sha256() -> str:
    """Return the SHA-256 of the contract's canonical JSON, in hexadecimal."""
    return canonical_sha256(contract())


def contract_markdown() -> str:
    """Return the reference page `docs/reference/features.md`."""
    rows = [
        f"| {feature.index} | `{feature.name}` | {feature.definition} | {feature.source} | {feature.group} |"
        for feature in FEATURES
    ]
    return "\n".join(
        [
            f"# The feature contract, version {CONTRACT_VERSION}",
            "",
            "<!-- Generated from eguard/detection/feature_contract.py by contract_markdown(); do not edit. -->",
            "",
            "One row for each scored event: 43 columns in this order, float64, every value in [0, 1], none missing.",
            "What is not known is 0. Texts are taken as UTF-8; their first 32,768 bytes count. All context looks back",
            "only. A model names the hash of this contract and is refused by an extractor with another.",
            "",
            f"SHA-256 of the canonical JSON: `{contract_sha256()}`",
            "",
            "| # | name | definition | source | group |",
            "|--:|---|---|---|---|",
            *rows,
            "",
        ]
    )
