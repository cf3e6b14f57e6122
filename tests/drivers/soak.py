"""Fit, sample and judge again and again in one process: soak.py TIMES. Prints the resident memory in MB after every tenth, and the number of open files."""
import gc, json, os, sys

import numpy as np
import psutil

import ncvq_nb as nv
from ncvq_nb.data import Dataset

rng, me, out = np.random.default_rng(0), psutil.Process(), []
data = Dataset("noise", rng.normal(size=(12, 24)).astype("float32"), np.arange(12) % 2, rng.normal(size=(12, 24)).astype("float32"), np.arange(12) % 2)
for i in range(int(sys.argv[1])):
    m = nv.NCVQ((None, "barlow", "vicreg", "vibcreg")[i % 4], dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=16, prior_depth=1, epochs=2, batch_size=6, random_state=i).fit(data.X_train, data.y_train)
    m.sample(4, random_state=0), m.reconstruct(data.X_test), m.transform(data.X_test)
    nv.evaluate(m, data, n_resamples=2, cas_total=12, fcn=dict(max_steps=2), cache_dir=False, verbose=False)
    if i % 10 == 9:
        gc.collect()
        out.append((me.memory_info().rss / 2**20, me.num_fds() if os.name == "posix" else 0))
print(json.dumps(out))
