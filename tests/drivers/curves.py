"""Fifty steps of every method and of the prior on GunPoint: the losses, and what is drawn and judged afterwards, as JSON."""
import json, sys

import numpy as np
import torch

import ncvq_nb as nv

if len(sys.argv) > 1: torch.set_num_threads(int(sys.argv[1]))
data, out = nv.load_ucr("GunPoint"), {}
original = nv.generator.train
nv.generator.train = lambda *args, **kw: original(*args, **{**kw, "log_every": 1})
for ssl in (None, "barlow", "vicreg", "vibcreg"):
    m = nv.NCVQ(ssl, "warp", dim=32, n_res_blocks=2, projector_dim=64, prior_dim=64, prior_depth=2, epochs=(25, 25 if ssl == "barlow" else 0.1), batch_size=25, random_state=0).fit(data.X_train, data.y_train)
    out[ssl or "naive"] = m.history_["tokenizer"]["loss"]
    if ssl == "barlow":
        out["prior"], out["samples"] = m.history_["prior"]["loss"], m.sample(4, random_state=0).ravel()[::20].tolist()
        r = nv.evaluate(m, data, n_resamples=10, cas_total=60, fcn=dict(max_steps=10), random_state=0, cache_dir=False, verbose=False)
        out["report"] = {row.metric: row.value for row in r}
print(json.dumps(out))
