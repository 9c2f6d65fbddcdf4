"""The memory of tensors: how much is in use, and giving back what is kept for reuse.

>>> import minigrad as mg
>>> before = mg.memory.stats()["live"]
>>> x = mg.zeros(1000)
>>> mg.memory.stats()["live"] - before >= 4000
True
"""

from ._storage import memory_stats as stats
from ._storage import reset_peak as reset_peak
from ._storage import trim as trim

__all__ = ["reset_peak", "stats", "trim"]
