"""What every test shares: names that are the same in each process that collects them."""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a binary parameter by its length: gzip, for one, writes the time of day into what it makes."""
    if isinstance(val, bytes) and not (val.isascii() and val.decode().isprintable()):
        return f"{argname}-{len(val)}-bytes"
    return None
