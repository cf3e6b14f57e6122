"""Fifty steps of methods, and of a prior, on GunPoint: curves.py METHOD...

Prints as JSON the losses by one thread and by two; with "barlow" also those of the prior, and
samples. Besides, a report about a tiny model.
"""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import ncvq_nb as nv
from toys import as_dataset, noise, tiny

SIZES = dict(dim=32, n_res_blocks=2, projector_dim=64, prior_dim=64, prior_depth=2, aug_weight=0.1)
SIZES |= dict(n_fft=8, width=8, n_codes=32, lr=1e-3, warmup=0.0, precision="float32")
SIZES |= dict(optimizer="adamw", weight_decay=1e-5)


def curve(method, data):
    "Its losses, and for Barlow Twins those of a prior and samples."
    whole, ssl = method == "barlow", None if method == "naive" else method
    epochs = (25, 25 if whole else 0.1)
    m = nv.NCVQ(ssl, "warp", **SIZES, epochs=epochs, batch_size=25, random_state=0)
    m.fit(data.X_train, data.y_train, log_every=1)
    out = {method: m.history_["tokenizer"]["loss"]}
    if whole:
        out["prior"] = m.history_["prior"]["loss"]
        out["samples"] = m.sample(4, random_state=0).ravel()[::20].tolist()
    return out


@contextmanager
def using(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def curves(methods, threads):
    "Every method, with so many threads."
    data, out = nv.load_ucr("GunPoint"), {}
    with using(threads):
        for method in methods:
            out |= curve(method, data)
    return out


def report():
    "Every metric of a tiny model, by one thread."
    data = as_dataset(noise(), noise(seed=1))
    quick = dict(n_resamples=5, cas_total=12, fcn=dict(max_steps=3))
    how = dict(random_state=0, cache_dir=False, verbose=False)
    with using(1):
        rows = nv.evaluate(tiny(sampling_steps=3).fit(*noise()), data, **quick, **how)
    return {row.metric: row.value for row in rows}


if __name__ == "__main__":
    one, two = (curves(sys.argv[1:], threads) for threads in (1, 2))
    print(json.dumps(dict(one=one, two=two, report=report())))
