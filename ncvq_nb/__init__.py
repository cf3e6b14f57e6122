__version__ = "0.1.0"

from .data import Dataset, bundled, load_ucr, read_dataset, read_series
from .experiments import Results, present, run_grid
from .generator import NCVQ
from .metrics import Report, evaluate

__all__ = ["Dataset", "NCVQ", "Report", "Results", "bundled", "evaluate", "load_ucr", "present", "read_dataset", "read_series", "run_grid"]
