__version__ = "0.1.0"

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors; when the program runs, a name is loaded as soon as it is asked for
    from .data import Dataset, holdout
    from .engine.identity import Named
    from .evaluation.evaluate import evaluate
    from .evaluation.present import present
    from .evaluation.report import Report
    from .evaluation.results import Results
    from .evaluation.window_scores import window_scores
    from .evaluation.window_sets import recording_windows
    from .experiments import run_grid
    from .generator import NCVQ
    from .grids.declared import read_grid
    from .io.archive import bundled, load_ucr
    from .io.files import read_dataset, read_series

_HOMES = {
    "Dataset": "data",
    "NCVQ": "generator",
    "Named": "engine.identity",
    "Report": "evaluation.report",
    "Results": "evaluation.results",
    "bundled": "io.archive",
    "evaluate": "evaluation.evaluate",
    "holdout": "data",
    "load_ucr": "io.archive",
    "present": "evaluation.present",
    "read_dataset": "io.files",
    "read_grid": "grids.declared",
    "read_series": "io.files",
    "recording_windows": "evaluation.window_sets",
    "run_grid": "experiments",
    "window_scores": "evaluation.window_scores",
}
__all__ = [*_HOMES]


def __getattr__(name):
    "A public name, or a module such as `ncvq_nb.training`."
    if name in _HOMES:
        globals()[name] = value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        _explain()
        return value
    if not name.startswith("_"):
        try:
            return import_module(f".{name}", __name__)
        except ModuleNotFoundError as e:
            if e.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _explain():
    "Put the parameters into the docstrings of all public names whose modules have been loaded."
    from .engine.docstrings import document

    for name, home in _HOMES.items():
        loaded = vars(sys.modules.get(f"{__name__}.{home}", object))
        if name in loaded:
            document(loaded[name])


def __dir__():
    return sorted({*globals(), *__all__})
