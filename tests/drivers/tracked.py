"""Train with trackers in a process of its own: tracked.py RUN_DIR STEP [NAME...]

Prints one line of JSON: a fingerprint of the model, its history, and every attempt to use the network. Where STEP is not 0, the process kills itself at that step of the prior.
trackio takes its folder from TRACKIO_DIR when it is imported, hence the process.
"""
import hashlib, json, os, random, signal, socket, sys

import numpy as np

used = []
for name in ("connect", "connect_ex", "bind", "listen"):
    def refuse(self, *args, name=name):
        used.append(f"{name} {args}")
        raise OSError("there is no network in this test")
    setattr(socket.socket, name, refuse)

from ncvq_nb import NCVQ

run_dir, at, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:]


def kill(stage, row):
    if at and stage == "prior" and row["step"] >= at: os.kill(os.getpid(), signal.SIGKILL)


rng, t = np.random.default_rng(0), np.linspace(0, 1, 24)
y = np.arange(12) % 2
X = (np.sin(2 * np.pi * (2 + 2 * y)[:, None] * t) + 0.1 * rng.normal(size=(12, 24))).astype(np.float32)
before = random.getstate(), np.random.get_state()[1].tobytes()
model = NCVQ(dim=8, n_res_blocks=1, n_codes=8, projector_dim=16, prior_dim=16, prior_depth=1, epochs=(8, 12), batch_size=6, random_state=0).fit(X, y, run_dir=run_dir, log_with=[*names, kill])
digest = hashlib.sha256(b"".join(v.numpy().tobytes() for m in (model.tokenizer_, model.prior_) for v in m.state_dict().values())).hexdigest()
print(json.dumps(dict(digest=digest, history=model.history_, network=used, kept=before == (random.getstate(), np.random.get_state()[1].tobytes()))))
