"""Four defects of serving, each a small change of this library's own source.

Each serves one request alone without a fault. `minillm.speculative.bug_gallery.patched`, given this
`ORDER`, runs our modules with one of them in it; the `examine` of these modules sees every one.
"""

from minillm.speculative.bug_gallery import ORDER as BELOW
from minillm.speculative.bug_gallery import Bug

__all__ = ["GALLERY", "ORDER"]

ORDER = (
    *BELOW,
    "serving.blocks",
    "serving.paged_cache",
    "serving.prefix",
    "serving.scheduler",
    "serving.request",
    "serving.engine",
    "serving.workload",
    "serving.record",
    "serving.replay",
    "serving.exactness",
)

GALLERY = (
    Bug(
        "a block freed too early",
        "serving.blocks",
        "        while len(table.blocks) > self.needed(length):\n            self.release",
        "        while len(table.blocks) > length // self.size:\n            self.release",
        "A block that is not full is given back after every step. Alone, a request gets the same "
        "block again; beside others, another request takes it.",
    ),
    Bug(
        "a reference count one short",
        "serving.scheduler",
        "        for block in job.table.blocks:\n            self.blocks.share(block)\n",
        "",
        "A request reads the blocks of a known beginning and is not counted as their holder: when "
        "it ends, they are free and still known.",
    ),
    Bug(
        "a prefix shared across different positions",
        "serving.prefix",
        "            if key not in node.children:\n"
        "                return\n"
        "            node = node.children[key]\n",
        "            known = {key: node for _, key, node in self._walk(self._root)}\n"
        "            if key not in known:\n"
        "                return\n"
        "            node = known[key]\n",
        "A block is looked up by its own tokens alone; its keys were rotated to another position "
        "and have seen other tokens.",
    ),
    Bug(
        "resumed with a stale cache",
        "serving.scheduler",
        "        self.running.remove(job)\n        self.blocks.shrink(job.table, 0)\n",
        "        self.running.remove(job)\n"
        "        for block in job.table.blocks:\n"
        "            self.blocks.release(block)\n",
        "A preempted request gives its blocks back, but its table still names them: it goes on "
        "where it was, and reads what others have written there since.",
    ),
)
