"""What several test files share: a browser, processors with bfloat16, and how often to try."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from ncvq_nb.engine.runtime import has_fast_bfloat16

imitated = pytest.mark.skipif(
    not has_fast_bfloat16(torch.device("cpu")),
    reason="this processor only imitates bfloat16, which takes minutes here",
)
# as many kills, faults and repetitions as the page on promises speaks of
THOROUGH = bool(os.environ.get("NCVQ_THOROUGH"))

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = "--disable-gpu --disable-background-networking --disable-component-update --disable-sync"


def by_night(why):
    "What the workflow tests by night alone, for it is slow and another test comes near it."
    return pytest.mark.skipif(not THOROUGH, reason=f"{why}: NCVQ_THOROUGH=1")


def pytest_collection_modifyitems(items):
    "Building the site takes longest, so it comes first: nobody waits for it in the end."
    items.sort(key=lambda item: item.path.name != "test_site.py")


@pytest.fixture(scope="session")
def browser():
    "Headless Chromium: the one that CHROMIUM names, the system's, or playwright's own."
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with sync_api.sync_playwright() as p:
        named = os.environ.get("CHROMIUM")
        found = next(filter(None, map(shutil.which, CHROMIUM)), None)
        program = named or found or p.chromium.executable_path
        if not Path(shutil.which(program) or program).exists():
            assert not named, f"CHROMIUM={named} is no program"
            pytest.skip(
                "no Chromium: apt-get install chromium, or playwright install --with-deps "
                "chromium, or name one by CHROMIUM"
            )
        b = p.chromium.launch(executable_path=program, args=QUIET.split())
        yield b
        b.close()


@pytest.fixture(scope="session")
def shots():
    "Where screenshots stay after the tests: $NCVQ_SHOTS, or build/shots, which git ignores."
    default = Path(__file__).resolve().parents[1] / "build" / "shots"
    folder = Path(os.environ.get("NCVQ_SHOTS") or default)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    "`shared(name, make)`: a folder that `make(folder)` fills once, whichever process comes first."
    from filelock import FileLock

    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name, make):
        path = base / name
        with FileLock(f"{path}.lock"):
            if not (path / "done").exists():
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir(parents=True)
                make(path)
                (path / "done").touch()
        return path

    return folder
