"""The memory of this process: the most it has held, and what it shares with no other."""

import math
import re
import sys
from pathlib import Path

__all__ = ["peak_megabytes", "unshared_megabytes"]


def peak_megabytes() -> float:
    """The peak of resident memory, in MB; NaN on Windows.

    On Linux `getrusage` starts a child at the peak of the process that started it (it is kept
    across fork and exec), so there the kernel's own count of this process's pages is read.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6  # type: ignore[index]
    if sys.platform == "win32":
        return math.nan
    import resource  # Windows has no such module

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def unshared_megabytes() -> float:
    """What this process holds now and shares with no other, in MB; NaN where Linux does not tell.

    Pages of a library that another kernel has loaded too are shared; alone, they count.
    """
    try:
        smaps = Path("/proc/self/smaps_rollup").read_text()
    except OSError:
        return math.nan
    kilobytes = re.findall(r"^(?:Private_Clean|Private_Dirty): +(\d+) kB", smaps, re.MULTILINE)
    return sum(map(int, kilobytes)) * 1024 / 1e6
