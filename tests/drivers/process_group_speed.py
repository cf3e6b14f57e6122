"""How long a training step of stage 1 takes, in one process or distributed over two.

Start it by torchrun with 1 or 2 processes; OMP_NUM_THREADS says how many threads each has.
"""

import os
import statistics
import time

import numpy as np
import torch

from ncvq_nb.bench.workloads import bench_series
from ncvq_nb.engine.distributed import ProcessGroup, rows_distributed
from ncvq_nb.engine.optimisers import decay_groups
from ncvq_nb.engine.runtime import kept_memory
from ncvq_nb.engine.stepper import Stepper
from ncvq_nb.tokenizer import Tokenizer, TokenizerLoss

CASES = {
    "naive": {},
    "Barlow Twins, projector 256": dict(ssl="barlow", augment="warp", projector_dim=256),
    "Barlow Twins, projector 4096": dict(ssl="barlow", augment="warp", projector_dim=4096),
}

x = torch.from_numpy(np.ascontiguousarray(bench_series(128, 140)[0], np.float32))
group = ProcessGroup()
for name, settings in CASES.items():
    torch.manual_seed(0)
    objective = TokenizerLoss(Tokenizer(1, 140), **settings)
    objective = objective.to(memory_format=torch.channels_last).train()
    objective.init_codebook(x, torch.Generator().manual_seed(0))
    opt = torch.optim.AdamW(decay_groups(objective, 1e-5), lr=1e-3, fused=True)
    stepper, times = Stepper(objective, opt, group=group), []
    with rows_distributed(objective, group), kept_memory():
        for i in range(18):
            began = time.perf_counter()
            stepper.step(i, [x], torch.Generator().manual_seed(i))
            times.append(time.perf_counter() - began)
    if group.rank == 0:
        threads, ms = os.environ.get("OMP_NUM_THREADS", "?"), 1e3 * statistics.median(times[3:])
        print(f"{group.size} process(es) of {threads} thread(s), {name}: {ms:.0f} ms", flush=True)
