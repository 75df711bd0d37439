"""What an agent can know of a row that a server has scored."""

import numpy as np

from eguard.detection.feature_contract import FEATURE_INDEX, FEATURE_NAMES
from eguard.events import EventClass
from eguard.mlops.holdout_evaluation import agent_view


def test_an_agent_knows_its_own_host_alone():
    features = np.full((2, len(FEATURE_NAMES)), 0.5)
    local = agent_view(features, np.array([EventClass.ALERT, EventClass.PROCESS_EXEC], np.int8))
    changed = [FEATURE_INDEX["behavioral_alarm_count"], FEATURE_INDEX["fleet_cooccurrence"]]
    assert np.flatnonzero(local[0] == 0.0).tolist() == changed
    assert np.flatnonzero(local[1] == 0.0).tolist() == changed[1:]
    assert (features == 0.5).all()
