"""Fit, sample and evaluate again and again in one process: soak.py ROUNDS

Four rounds with a report, one of every method, and four without, in turn. Prints as JSON, at the
end of those with one: how many rounds there were, resident memory in MB, number of open files.
"""

import gc
import json
import os
import sys
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
import ncvq_nb as nv
from toys import as_dataset, noise, tiny

me, out = psutil.Process(), []
data = as_dataset(noise(8), noise(8, seed=1))
QUICK = dict(n_resamples=2, cas_total=8, fcn=dict(max_steps=2), cache_dir=False, verbose=False)
for i in range(int(sys.argv[1])):
    ssl = (None, "barlow", "vicreg", "vibcreg")[i % 4]
    m = tiny(ssl, epochs=2, batch_size=4, sampling_steps=2, random_state=i)
    m.fit(data.X_train, data.y_train)
    m.sample(4, random_state=0)
    m.reconstruct(data.X_test)
    m.transform(data.X_test)
    if i % 8 < 4:
        nv.evaluate(m, data, **QUICK)
    if i % 8 == 3:
        gc.collect()
        files = me.num_fds() if os.name == "posix" else 0
        out.append((i + 1, me.memory_info().rss / 2**20, files))
print(json.dumps(out))
