"""How long a training step of stage 1 takes, shared out or not: start it by torchrun with 1 or 2 processes; OMP_NUM_THREADS says how many threads each has."""
import os, statistics, time

import numpy as np
import torch

from ncvq_nb.bench import bench_series
from ncvq_nb.processes import Team, shared_out
from ncvq_nb.tokenizer import Tokenizer, TokenizerLoss
from ncvq_nb.training import Stepper, _decay_groups, kept_memory

x, team = torch.from_numpy(np.ascontiguousarray(bench_series(128, 140)[0], np.float32)), Team()
for name, settings in {"naive": {}, "Barlow Twins, projector 256": dict(ssl="barlow", augment="warp", projector_dim=256), "Barlow Twins, projector 4096": dict(ssl="barlow", augment="warp", projector_dim=4096)}.items():
    torch.manual_seed(0)
    o, times = TokenizerLoss(Tokenizer(1, 140), **settings).to(memory_format=torch.channels_last).train(), []
    o.start(x, torch.Generator().manual_seed(0))
    stepper = Stepper(o, torch.optim.AdamW(_decay_groups(o, 1e-5), lr=1e-3, fused=True), team=team)
    with shared_out(o, team), kept_memory():
        for i in range(18):
            began = time.perf_counter()
            stepper.step(i, [x], torch.Generator().manual_seed(i))
            times.append(time.perf_counter() - began)
    if team.rank == 0: print(f"{team.size} process(es) of {os.environ.get('OMP_NUM_THREADS', '?')} thread(s), {name}: {1e3 * statistics.median(times[3:]):.0f} ms", flush=True)
