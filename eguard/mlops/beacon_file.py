"""Rank the pairs of somebody's own network logs by how much they look like beacons, and say why."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.errors import ConfigError, CorruptFileError, ParseError
from eguard.estimators.beacon import BeaconOptions, destination_rarity
from eguard.events import EventBatch
from eguard.events.parsers import ParseReport, read_batches
from eguard.mlops.beacon_benign import conversing
from eguard.mlops.beacon_pairs import PAIR_COLUMNS, BeaconPairs, pairs_from_events
from eguard.mlops.beacon_peers import debiased_information_bits, plain_information_bits
from eguard.mlops.beacon_scores import ScoredPairs, score_pairs, verdict
from eguard.mlops.beacon_services import explain
from eguard.mlops.workspace import read_json

Direction = Literal["auto", "outbound", "inbound", "all"]
Progress = Callable[[str, int, int], None]

#: Sources that are taken for the operator's own hosts where none are named.
PRIVATE_NETWORKS: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
_CALIBRATION_NAMES: Final = ("beacon-calibration.json", "calibration.json")
_SEED: Final = 0
#: From this share of its connections on a pair is one of pings.
_MIN_SHARE_COPIES: Final = 0.5
_NOT_CONVERSING: Final = "not_conversing"
_SCANNER: Final = (
    "in most of its connections payload does not go both ways, or they are pings: scanners, password guessers and "
    "monitors keep time too"
)
#: Why a regular caller with which nobody talks is no beacon: one from outside, and one of which nobody knows.
_FROM_OUTSIDE: Final = f"it calls in and {_SCANNER}"
_FROM_ANYWHERE: Final = f"{_SCANNER}. If the source is your own host, name its network with --network"


def read_beacon_calibration(path: Path) -> BeaconCalibration:
    """Read a threshold from ``beacon-calibration.json``, from the section of a ``calibration.json``, or from a folder.

    Parameters
    ----------
    path : Path
        File, or folder of models or of a bundle that holds one of them.

    Raises
    ------
    ConfigError
        There is no such file, or it is not JSON.
    ModelError
        It is no calibration of the beacon score, or of other settings than this version's.
    """
    file = _find(path) if path.is_dir() else path
    try:
        document = read_json(file)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read the calibration {file}: {error}",
            remedy="Make one with `dvc repro beacons`, or name the folder of a bundle that carries one.",
            path=str(file),
        ) from error
    section = document.get("beacon", document) if isinstance(document, dict) else document
    return BeaconCalibration.from_json(section)


def rank_beacons(
    paths: Sequence[Path],
    *,
    calibration: BeaconCalibration | None = None,
    networks: Sequence[str] = (),
    source_format: str | None = None,
    direction: Direction = "auto",
    top: int = 20,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Rank the (source, destination) pairs of network logs, most beacon-like first.

    Parameters
    ----------
    paths : sequence of Path
        Zeek logs (conn, http, ssl, dns), message tables or any other format with connections; they are read together.
        A file that breaks off counts up to the damage.
    calibration : BeaconCalibration, optional
        Threshold and settings; pairs are ranked without a verdict if not given.
    networks : sequence of str
        Networks of the operator's own hosts in CIDR notation; the private ones if none are named. How many of these
        hosts call a destination makes it rare or common. Pairs of other sources are inbound and count as rare.
    source_format : str, optional
        Format of the files; recognised from each if not given.
    direction : {"auto", "outbound", "inbound", "all"}
        Which pairs are ranked: outbound ones, and where none of them can be scored the inbound ones, if left to itself.
        The threshold was set on outbound pairs. Inbound ones are full of scanners and password guessers, which keep
        time: they are ranked behind those that converse, and are no beacons. Where no source is an own host, this
        holds for every pair, and ``warnings`` says so.
    top : int
        Pairs in the ranking; 0 for all.
    progress : callable, optional
        Told what is done, how much of it, and of how much.

    Returns
    -------
    dict
        Counts, damage, warnings, the fleet, and the ranking: score, parts, period, information, rarity, verdict
        and reason.

    Raises
    ------
    ConfigError
        A network is not in CIDR notation.
    ParseError
        No file could be read at all.
    """
    own_networks = _networks(networks or PRIVATE_NETWORKS)
    events, inputs = _read(paths, source_format, progress)
    pairs = pairs_from_events(events)
    options = BeaconOptions() if calibration is None else calibration.options
    threshold = None if calibration is None else calibration.threshold
    scored, is_own = _score(pairs, own_networks, options)
    if progress:
        progress("scored pairs", len(pairs), len(pairs))
    n_own = len(np.unique(pairs.host[is_own]))
    sides = {"outbound": is_own, "inbound": ~is_own} if n_own else {"outbound": ~is_own, "inbound": is_own}
    # A log without answers' sizes cannot tell who converses.
    has_answers = bool(pairs.received_bytes.any())
    # Without own hosts nobody knows which pairs are inbound, and the log of a public server holds little else.
    is_stranger = sides["inbound"] if n_own else sides["outbound"]
    is_scanner = is_stranger & (~conversing(pairs) & has_answers | _echoing(pairs))
    is_beacon = (scored.score > (np.inf if threshold is None else threshold)) & ~is_scanner
    if direction == "auto":
        has_scored = {side: bool((rows & scored.regularity.is_scored).any()) for side, rows in sides.items()}
        direction = "inbound" if has_scored["inbound"] and not has_scored["outbound"] else "outbound"
    order = np.lexsort((pairs.destination, pairs.host, -pairs.n_observations, -scored.score, is_scanner))
    if direction != "all":
        order = order[sides[direction][order]]
    shown = order[: top or None].tolist()
    return {
        "inputs": inputs,
        "damage": [entry["damage"] for entry in inputs if entry["damage"]],
        "warnings": [] if n_own or not len(pairs) else [_warning(is_named=bool(networks), has_answers=has_answers)],
        "threshold": threshold,
        "alpha": None if calibration is None else calibration.alpha,
        "is_advisory": calibration is None or calibration.insufficient_calibration,
        "direction": direction,
        "fleet_hosts": n_own,
        "rarity": f"over {n_own} hosts" if n_own > 1 else "taken as 1: there is no fleet to compare with",
        "pairs": {side: int(rows.sum()) for side, rows in sides.items()},
        "pairs_scored": {side: int((rows & scored.regularity.is_scored).sum()) for side, rows in sides.items()},
        "beacons": {side: int((rows & is_beacon).sum()) for side, rows in sides.items()},
        "excluded": pairs.excluded,
        "ranking": [
            {"rank": rank, "direction": "outbound" if sides["outbound"][row] else "inbound"}
            | _entry(scored, row, threshold, n_own)
            | (
                {"verdict": _NOT_CONVERSING, "reason": _FROM_OUTSIDE if n_own else _FROM_ANYWHERE}
                if is_scanner[row] and scored.regularity.is_scored[row]
                else {}
            )
            for rank, row in enumerate(shown, start=1)
        ],
    }


def _echoing(pairs: BeaconPairs) -> NDArray[np.bool_]:
    """Return which pairs are pings: no port, and what comes back is as long as what was sent, in half of the cases.

    The kernel answers a ping by itself, so payload both ways is no conversation there.
    """
    row = np.repeat(np.arange(len(pairs)), pairs.n_observations)
    is_copy = (pairs.sent_bytes > 0.0) & (pairs.sent_bytes == pairs.received_bytes)
    copies = np.bincount(row, is_copy, minlength=len(pairs))
    has_no_port = np.array([name.endswith(":0") for name in pairs.destinations], bool)[pairs.destination]
    is_echoing: NDArray[np.bool_] = has_no_port & (copies >= _MIN_SHARE_COPIES * pairs.n_observations)
    return is_echoing


def _warning(*, is_named: bool, has_answers: bool) -> str:
    """Say what it means that no source is known as an own host."""
    why = "no source is in the networks that were named" if is_named else "no private address is a source"
    effect = (
        "callers without payload both ways are taken for scanners, even if they are your own"
        if has_answers
        else "and as the log holds no sizes of answers, scanners may be among the beacons"
    )
    return f"{why}, so nobody knows who calls out and who calls in: {effect}. Name your networks with --network."


def _find(folder: Path) -> Path:
    for name in _CALIBRATION_NAMES:
        for place in (folder / name, folder / "models" / name):
            if place.exists():
                return place
    raise ConfigError(
        f"{folder} holds no {' and no '.join(_CALIBRATION_NAMES)}",
        remedy="Make one with `dvc repro beacons`, or leave --calibration out to rank without a verdict.",
        path=str(folder),
    )


def _networks(texts: Sequence[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    try:
        return [ipaddress.ip_network(text) for text in texts]
    except ValueError as error:
        raise ConfigError(f"no network: {error}", remedy="Write it like 10.0.0.0/8 or 192.0.2.7/32.") from error


def _read(
    paths: Sequence[Path], source_format: str | None, progress: Progress | None
) -> tuple[EventBatch, list[dict[str, Any]]]:
    """Return the events of all files up to any damage, and what became of each file's rows."""
    batches: list[EventBatch] = []
    inputs: list[dict[str, Any]] = []
    failures: list[ParseError] = []
    rows = 0
    for path in paths:
        report, error_text = ParseReport(), ""
        try:
            for batch in read_batches(path, source_format, report):
                # A connection's raw fields are most of its memory, and nothing here needs them.
                batches.append(EventBatch(**{name: getattr(batch, name) for name in PAIR_COLUMNS}))
                rows += len(batch)
                if progress:
                    progress("read rows", rows, rows)
        except CorruptFileError as error:
            error_text = report.damage or error.message
        except ParseError as error:
            failures.append(error)
            error_text = error.message
        inputs.append({"path": str(path)} | report.to_dict() | {"damage": error_text or None})
    if failures and len(failures) == len(paths):
        raise failures[0]
    return EventBatch.concatenate(batches), inputs


def _score(
    pairs: BeaconPairs, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network], options: BeaconOptions
) -> tuple[ScoredPairs, NDArray[np.bool_]]:
    """Score all pairs; the rarity counts the operator's own hosts alone."""
    is_own_host = np.array([_belongs(name, networks) for name in pairs.hosts], bool)
    is_own = is_own_host[pairs.host]
    scored = score_pairs(pairs, options, has_fleet=False)
    if not is_own.any():
        return scored, is_own
    callers = pairs.take(is_own).hosts_by_destination()[pairs.destination]
    rarity = np.asarray(destination_rarity(callers, int(is_own_host.sum())), np.float64)
    return replace(scored, n_hosts_contacting=callers, rarity=rarity), is_own


def _belongs(host: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Return whether a source is the operator's own; one known by name is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    return any(address in network for network in networks)


def _entry(scored: ScoredPairs, row: int, threshold: float | None, n_own: int) -> dict[str, Any]:
    word, reason = verdict(scored, row, threshold)
    entry = scored.describe(row)
    most, least = scored.options.max_observations, scored.options.min_observations
    information: dict[str, Any] = dict.fromkeys(
        ("information_bits", "debiased_information_bits", "information_p_value")
    )
    if entry["n_observations"] >= least:
        one = scored.pairs.take(np.array([row]))
        rng = np.random.default_rng(_SEED)
        debiased, p_value = debiased_information_bits(one, 0, rng, max_observations=most)
        plain = plain_information_bits(one, min_observations=least, max_observations=most)
        information = {
            "information_bits": float(plain[0]),
            "debiased_information_bits": debiased,
            "information_p_value": p_value,
        }
    return (
        entry
        | information
        | {
            "verdict": word,
            "reason": reason,
            "explanation": explain(entry["destination"], entry["n_hosts_contacting"], n_own),
        }
    )
