"""What several test files share: a browser, where there is one, a processor that multiplies bfloat16, and how often things are tried."""
import os, shutil
from pathlib import Path

import pytest
import torch

from ncvq_nb.metrics import _fast_bfloat16

imitated = pytest.mark.skipif(not _fast_bfloat16(torch.device("cpu")), reason="this processor only imitates bfloat16, which takes minutes here")
THOROUGH = bool(os.environ.get("NCVQ_THOROUGH"))  # as many kills and faults as the page on promises speaks of
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser():
    "Headless Chromium: the program that CHROMIUM names, the system's, or the one `playwright install chromium` brings."
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with sync_api.sync_playwright() as p:
        named = os.environ.get("CHROMIUM")
        program = named or next(filter(None, map(shutil.which, CHROMIUM)), None) or p.chromium.executable_path
        if not Path(shutil.which(program) or program).exists():
            assert not named, f"CHROMIUM={named} is no program"
            pytest.skip("no Chromium: apt-get install chromium, or playwright install --with-deps chromium, or name one by CHROMIUM")
        b = p.chromium.launch(executable_path=program, args=["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
        yield b
        b.close()


@pytest.fixture(scope="session")
def shots():
    "Where screenshots stay after the tests: $NCVQ_SHOTS, or build/shots, which git ignores."
    folder = Path(os.environ.get("NCVQ_SHOTS") or Path(__file__).resolve().parents[1] / "build" / "shots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
