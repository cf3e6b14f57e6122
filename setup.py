"""Everything pip needs is read from settings.ini, so that nbdev and pip cannot disagree."""

import shlex
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_namespace_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="], interpolation=None)
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
package = cfg["lib_path"]
extras = [key for key in cfg if key.endswith("_requirements")]


def words(key):
    return shlex.split(cfg.get(key, ""))


setup(
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    keywords=cfg["keywords"].split(),
    license={"apache2": "Apache-2.0"}[cfg["license"]],
    url=cfg["git_url"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        f"Intended Audience :: {cfg['audience']}",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    # annexes are packages; the data sets lie in a folder of their own, without an __init__.py
    packages=find_namespace_packages(include=[package, f"{package}.*"], exclude=["*.__pycache__"]),
    package_data={package: ["py.typed"], f"{package}.datasets": ["*"]},
    install_requires=words("requirements"),
    extras_require={key.removesuffix("_requirements"): words(key) for key in extras},
    entry_points={
        "console_scripts": words("console_scripts"),
        "nbdev": [f"{package}={package}._modidx:d"],
    },
)
