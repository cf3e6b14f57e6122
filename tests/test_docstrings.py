"Docstrings made from comments: what numpydoc says of them, and what a reader sees with Shift-Tab."

import inspect
import re

import pytest
from fastcore.docments import docments
from toys import fitted

import ncvq_nb as nv
from ncvq_nb.engine import docstrings

# numpydoc's checks that are no facts about parameters: quotation marks, sections that are not made,
# one line, and a verb where the first line names what comes back ("Series and labels of one file")
NOT_ASKED = {"GL01", "GL02", "ES01", "SA01", "EX01", "SS05", "SS06"}


def own(thing):
    return inspect.isfunction(thing) and thing.__module__.startswith("ncvq_nb")


def public():
    "Every name of the top of the package, and the public methods of its classes."
    for name in nv.__all__:
        yield name, (thing := getattr(nv, name))
        for k, v in vars(thing).items() if inspect.isclass(thing) else ():
            if k[0] != "_" and own(getattr(v, "__func__", v)):
                yield f"{name}.{k}", getattr(thing, k)


PUBLIC = dict(public())


def test_numpydoc_finds_nothing_wrong():
    validate = pytest.importorskip("numpydoc.validate").validate
    found = {}
    for name, thing in PUBLIC.items():
        for code, message in validate(f"ncvq_nb.{name}")["errors"]:
            question = code == "PR09" and "?\n" in thing.__doc__
            inherited = code == "PR01" and not own(getattr(thing, "__init__", thing))
            if code not in NOT_ASKED and not question and not inherited:
                found.setdefault(name, []).append(message)
    assert not found, found
    assert len(PUBLIC) > 30


def test_a_parameter_without_a_meaning_would_be_found():
    validate = pytest.importorskip("numpydoc.validate")
    made = docstrings.document(undescribed)
    assert made is undescribed
    codes = {code for code, _ in validate.validate(f"{__name__}.undescribed")["errors"]}
    assert "PR07" in codes


def undescribed(width=3):
    "Nothing."


@pytest.mark.parametrize(
    "code, said",
    {
        "nv.NCVQ": ["prior_depth : int | tuple, default=4", "Points in a window of the STFT"],
        "nv.NCVQ.fit": ["(n, length) or (n, channels, length) series", "The object itself."],
        "model.sample": ["Noise on the order", "in the units of the training set"],
        "nv.evaluate": ["Synthetic series for CAS, at least.", "Report"],
        "nv.NCVQ.load": ["Folder that `save` wrote.", "A new object of the class."],
        "report.save": ["A file; .json and .md take the place"],
    }.items(),
)
def test_what_ipython_shows(code, said):
    pytest.importorskip("IPython")
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.user_ns.update(nv=nv, model=nv.NCVQ(), report=nv.Report("r"))
    shown = shell.object_inspect_mime(code, detail_level=0)["text/plain"]
    assert all(s in shown for s in said), shown


def test_help_shows_each_parameter_once():
    text = inspect.getdoc(nv.NCVQ)
    for name in inspect.signature(nv.NCVQ).parameters:
        assert text.count(f"\n{name} : ") == 1, name
    assert text.count("Parameters\n----------") == 1
    assert docstrings.document(nv.NCVQ) is nv.NCVQ and inspect.getdoc(nv.NCVQ) == text


def test_what_a_fitted_model_has_is_listed():
    text = inspect.getdoc(nv.NCVQ)
    _, listed = text.split("Attributes\n----------\n")
    names = re.findall(r"^(\w+_) : ", listed.split("\n\n")[0], re.M)
    m = fitted()
    assert {n for n in vars(m) if n[-1] == "_" and n[0] != "_"} - {*names} <= {
        "learned_with_",
        "limits_",
        "transformer_",
    }
    assert "classes_ : ndarray | None\n    (C) labels in order; None without labels." in listed
    assert not hasattr(nv.NCVQ(), "tokenizer_")


def test_a_meaning_said_elsewhere_is_looked_up():
    doc = {name: inspect.getdoc(PUBLIC[f"NCVQ.{name}"]) for name in ("fit", "fit_prior", "impute")}
    run_dir = doc["fit"][doc["fit"].index("run_dir : ") :].split("\n\n")[0]
    assert run_dir in doc["fit_prior"]
    noise = "\nchoice_temperature : float | tuple | None, default=None\n    Noise on"
    assert noise in doc["impute"]
    assert "as in `sample`" not in doc["impute"]
    assert "own; None" not in doc["impute"].replace("\n    ", " "), "said once"
    assert "observation_noise" in inspect.getdoc(PUBLIC["NCVQ.sample"])
    assert "observation_noise" not in doc["impute"], "completions have none"


def test_comments_themselves_are_read_as_before():
    "Help texts of the commands and the tables of the site are made of them."
    found = docments(nv.NCVQ.__init__, full=True)
    assert found.n_fft.docment.startswith("points in a window")
    found = docments(nv.NCVQ.encode, full=True)
    said = "(n, n_tokens) int64, frequency row by frequency row; or (n,) str"
    assert found["return"].docment == said


def test_each_file_is_parsed_once():
    "All public names at once, from sources that were not parsed before, take milliseconds."
    texts = {}
    for name, thing in PUBLIC.items():
        f = getattr(thing, "__func__", thing)
        texts[name], f.__doc__ = f.__doc__, inspect.getdoc(f).split("\n")[0]
    parsed = next(v for v in vars(docstrings).values() if hasattr(v, "cache_clear"))
    parsed.cache_clear()
    for name in nv.__all__:
        docstrings.document(getattr(nv, name))
    seen = parsed.cache_info()
    for name, thing in PUBLIC.items():
        assert inspect.getdoc(thing) == inspect.cleandoc(texts[name]), name
    assert 0 < seen.misses == seen.currsize and seen.hits, seen


def test_without_docstrings_or_source_nothing_is_made():
    scope = {"__name__": "nowhere"}
    exec('def f(x=1):  # said\n    "One line."\ndef g(x=1): pass', scope)
    for name, text in dict(f="One line.", g=None).items():
        assert docstrings.document(scope[name]).__doc__ == text
