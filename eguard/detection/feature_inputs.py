"""The facts that the layers gather about candidate events, as columns: what the feature extractor starts from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eguard.detection.context import ContextColumns
from eguard.errors import EstimatorInputError
from eguard.events.columns import EventBatch
from eguard.events.model import UNCOUNTED, EventClass

Numbers = NDArray[Any]


@dataclass(slots=True)
class FeatureInputs:
    """Columns of n candidate events; start from `empty` or `from_batch` and assign what the layers found.

    Counts and flags are raw, as the layers deliver them: the extractor scales and clamps. What nobody assigns stays at
    nothing known, and yields 0.

    Attributes
    ----------
    event_class : ndarray of int
        `EventClass` or `UNCOUNTED`.
    rule_id : list of str
        Rule that makes the event an alert, or blank.
    ioc_hit, anomaly_high, anomaly_medium, prefilter_hit, is_elevated : ndarray of bool
    rule_matches_60s, tactics_1h, yara_hits, string_signature_hits, layers_fired, behavioural_alarms_1h : ndarray of int
    tree_depth, siblings_alive, spawned_60s : ndarray of int
        Of the process tree.
    child_entropy, parent_child_rarity, port_rarity, container_risk, beacon_periodicity : ndarray of float in [0, 1]
    beacon_mi_bits : ndarray of float
        Debiased mutual information.
    event_bytes : ndarray of int
        Size of the event's record.
    command_line, file_path, dns_name : list of str
    rule_rarity_host, rule_rarity_fleet, rule_burst, distinct_rules, silence_before, detector_agreement, hour_rarity :
        ndarray of float in [0, 1]; `set_context` assigns them from an `AlertContext`.
    cooccurring_hosts : ndarray of int
        Other hosts with the rule within 300 s, from `FleetCooccurrence`.
    """

    event_class: Numbers
    rule_id: list[str]
    ioc_hit: Numbers
    rule_matches_60s: Numbers
    anomaly_high: Numbers
    anomaly_medium: Numbers
    tactics_1h: Numbers
    yara_hits: Numbers
    string_signature_hits: Numbers
    is_elevated: Numbers
    port_rarity: Numbers
    command_line: list[str]
    prefilter_hit: Numbers
    layers_fired: Numbers
    dns_name: list[str]
    event_bytes: Numbers
    container_risk: Numbers
    file_path: list[str]
    behavioural_alarms_1h: Numbers
    tree_depth: Numbers
    siblings_alive: Numbers
    child_entropy: Numbers
    spawned_60s: Numbers
    parent_child_rarity: Numbers
    beacon_mi_bits: Numbers
    beacon_periodicity: Numbers
    rule_rarity_host: Numbers
    rule_rarity_fleet: Numbers
    rule_burst: Numbers
    distinct_rules: Numbers
    silence_before: Numbers
    detector_agreement: Numbers
    hour_rarity: Numbers
    cooccurring_hosts: Numbers

    def __len__(self) -> int:
        return len(self.event_class)

    @classmethod
    def empty(cls, n: int) -> FeatureInputs:
        """Return columns for n events of which nothing is known.

        Examples
        --------
        >>> inputs = FeatureInputs.empty(2)
        >>> len(inputs), inputs.command_line, inputs.event_class.tolist()
        (2, ['', ''], [-1, -1])
        """
        columns: dict[str, Any] = {column.name: np.zeros(n) for column in fields(cls)}
        columns.update({name: [""] * n for name in TEXT_INPUTS})
        columns["event_class"] = np.full(n, UNCOUNTED)
        return cls(**columns)

    @classmethod
    def from_batch(cls, batch: EventBatch) -> FeatureInputs:
        """Return columns with everything that the events say of themselves.

        The file path is the target of a file or module event and the image of a process start; the queried name is the
        target of a DNS event.
        """
        inputs = cls.empty(len(batch))
        inputs.event_class = batch.event_class
        inputs.rule_id = batch.rule_id
        inputs.is_elevated = batch.is_elevated
        inputs.event_bytes = batch.event_bytes
        inputs.command_line = batch.command_line
        is_query = batch.event_class == EventClass.DNS_QUERY
        is_file = (batch.event_class == EventClass.FILE_OPEN) | (batch.event_class == EventClass.MODULE_LOAD)
        is_start = batch.event_class == EventClass.PROCESS_EXEC
        for row in np.flatnonzero(is_query).tolist():
            inputs.dns_name[row] = batch.target[row]
        for row in np.flatnonzero(is_file).tolist():
            inputs.file_path[row] = batch.target[row]
        for row in np.flatnonzero(is_start).tolist():
            inputs.file_path[row] = batch.image_path[row]
        return inputs

    def set_context(self, context: ContextColumns) -> None:
        """Assign features 34 to 40."""
        for column in fields(context):
            setattr(self, column.name, getattr(context, column.name))

    def check(self) -> None:
        """Refuse columns of unequal length.

        Raises
        ------
        EstimatorInputError
            Naming the column.
        """
        for column in fields(self):
            length = len(getattr(self, column.name))
            if length != len(self):
                raise EstimatorInputError(column.name, f"{length} values for {len(self)} events")


TEXT_INPUTS = ("rule_id", "command_line", "dns_name", "file_path")
