"""Train with trackers in a process of its own: tracked.py RUN_DIR STEP [NAME...]

Prints one line of JSON: are the weights those of a run without trackers, the history, every attempt
to use the network, and which trackers were imported with the package. Where STEP is not 0, the
process kills itself at that step of the prior. trackio takes its folder from TRACKIO_DIR when it is
imported, hence the process.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

used = []
for name in ("connect", "connect_ex", "bind", "listen"):

    def refuse(self, *args, name=name):
        used.append(f"{name} {args}")
        raise OSError("there is no network in this test")

    setattr(socket.socket, name, refuse)

import ncvq_nb  # noqa: F401  (first, to see what it imports)

TRACKERS = {"accelerate", "tensorboard", "trackio", "wandb", "mlflow"}
imported = sorted(TRACKERS & set(sys.modules))

sys.path.insert(0, str(Path(__file__).parents[1]))
from toys import fingerprint, global_state, sines, tiny

SETTINGS = dict(epochs=(8, 12), batch_size=6)
run_dir, at, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:]


def kill(stage, row):
    if at and stage == "prior" and row["step"] >= at:
        os.kill(os.getpid(), signal.SIGKILL)


X, y = sines(length=24)
before = global_state()
model = tiny(**SETTINGS).fit(X, y, run_dir=run_dir, log_with=[*names, kill])
kept = before == global_state()
same = fingerprint(model) == fingerprint(tiny(**SETTINGS).fit(X, y))
found = dict(same=same, history=model.history_, network=used, kept=kept, imported=imported)
print(json.dumps(found))
