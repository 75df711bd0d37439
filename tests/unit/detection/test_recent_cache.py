"""The two-generation cache stays within its bounds and keeps what is in use."""

from eguard.detection.recent_cache import RecentCache


def test_it_never_holds_more_than_its_capacity():
    cache = RecentCache[int, int](capacity=10)
    for key in range(1000):
        cache.put(key, key)
        assert len(cache) <= 10


def test_what_is_used_again_survives_any_number_of_newcomers():
    cache = RecentCache[str, int](capacity=10)
    cache.put("used", 7)
    for key in range(1000):
        cache.put(str(key), key)
        assert cache.get("used") == 7


def test_what_is_not_used_is_forgotten():
    cache = RecentCache[str, int](capacity=4)
    cache.put("unused", 1)
    for key in range(10):
        cache.put(str(key), key)
    assert cache.get("unused") is None


def test_weights_bound_it_too_also_when_entries_move_up():
    cache = RecentCache[str, str](capacity=1000, weight_limit=100, weigh=len)
    for number in range(200):
        key = f"{number:020d}"
        cache.put(key, key)
        cache.get(f"{number - 2:020d}")
        assert len(cache) * 20 <= 100


def test_an_entry_heavier_than_half_the_limit_is_not_kept():
    cache = RecentCache[str, str](capacity=10, weight_limit=100, weigh=len)
    cache.put("k", "small")
    cache.put("x" * 51, "large")
    assert cache.get("x" * 51) is None
    assert cache.get("k") == "small"
