"""One profile for all property tests.

No deadline: a loaded machine is no defect of the code. Derandomised: the same tree passes or fails the same way for
everybody. To search wider for a while, raise ``max_examples`` and drop ``derandomize``.
"""

from hypothesis import settings

settings.register_profile("house", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("house")
