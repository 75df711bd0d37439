"""Memory is given back after something large was read."""

import gc

from eguard.agent.memory import give_back_memory


def test_what_stays_is_spared_from_collections_and_what_went_is_collected():
    class Node:
        alive = 0

        def __init__(self):
            self.me = self
            Node.alive += 1

        def __del__(self):
            Node.alive -= 1

    try:
        give_back_memory()
        first = gc.get_freeze_count()
        assert first > 1000
        Node()  # a circle that an earlier freeze must not keep for ever
        gc.freeze()
        give_back_memory()
        assert Node.alive == 0
    finally:
        gc.unfreeze()
