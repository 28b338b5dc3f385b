"""The meter of a fast decoder: is it exact, and by how much is it faster?"""

from widgets.common.meter.meters import (
    Verdict,
    Watched,
    compare,
    compare_cache,
    measure,
    meter,
    watch,
)

__all__ = ["Verdict", "Watched", "compare", "compare_cache", "measure", "meter", "watch"]
