"""How torch's threads wait for each other, and how many there are.

OpenMP's threads meet at a barrier after every product. On Linux they spin there by default, and
wait for a thread whose core another process holds. After 1,000 looks they should sleep instead:
`minillm bench --only machine/busy` shows what that is worth. A container may grant fewer cores than
the machine shows. The library reads both as it is loaded, so a command says them before torch is
imported; what the user has set stands. Other systems keep the ways of their OpenMP.
"""

import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["OWN_SETTINGS", "granted_cores", "thread_settings"]

OWN_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
_SPINS = 1000
_CGROUPS = Path("/sys/fs/cgroup")


def thread_settings(inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables that an environment lacks; none where the user has set one of them.

    Commands set them, and so do the kernels of `minillm lab`. In a process of one's own they must
    stand before torch is loaded; lesson 03 shows what this says there.
    """
    if sys.platform != "linux" or any(name in inherited for name in OWN_SETTINGS):
        return {}
    settings, visible = {"GOMP_SPINCOUNT": str(_SPINS)}, len(os.sched_getaffinity(0))
    if (granted := granted_cores()) < visible:
        settings["OMP_NUM_THREADS"] = str(granted)
    return settings


def granted_cores(cgroups: Path = _CGROUPS) -> int | float:
    """Whole cores of this container's quota, at least one; infinity where there is no quota.

    Args:
        cgroups: where the kernel shows them; version 2 (`cpu.max`), or 1 (`cpu.cfs_quota_us`).
    """
    try:
        quota, period = (cgroups / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroups / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroups / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    if quota in ("max", "-1"):
        return math.inf
    return max(1, int(quota) // int(period))
