"""Page faults and resident memory while blocks of 64 MB are taken and given back: memory.py

Prints as JSON what was found with `kept_memory`, without it, and with it where the environment has
a choice of its own: page faults of five blocks after five others, resident MB then and afterwards.
"""

import json
import os
import resource
import sys
from contextlib import nullcontext
from pathlib import Path

import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from ncvq_nb.engine.runtime import kept_memory
from toys import forked

torch.set_num_threads(1)


def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def resident():
    return psutil.Process().memory_info().rss / 2**20


def five_blocks():
    before = page_faults()
    for _ in range(5):
        torch.empty(2**24).fill_(1)
    return page_faults() - before


def measured(context, **env):
    os.environ.update(env)
    with context():
        five_blocks()
        found = [five_blocks(), resident()]
    return [*found, resident()]


for k in [k for k in os.environ if k.startswith(("MALLOC_", "GLIBC_"))]:
    del os.environ[k]
ways = dict(
    kept=lambda: measured(kept_memory),
    given_back=lambda: measured(nullcontext),
    left=lambda: measured(kept_memory, MALLOC_ARENA_MAX="1"),
)
print(json.dumps({k: forked(work)[1]["result"] for k, work in ways.items()}))
