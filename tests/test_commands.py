"""Command-line parsing: values, options from a constructor, errors in one line."""

import pytest

from ncvq_nb.engine.commands import (
    add_settings,
    command_parser,
    given_settings,
    parse_value,
    run_command,
)


class Filter:
    def __init__(
        self,
        width=5,  # of the `window`, in samples; 50 % overlap
        edge_mode=None,  # beyond the ends
        verbose=False,  # say more?
    ):
        self.width, self.edge_mode = width, edge_mode


def parser(**kw):
    p = command_parser("smooth", "Smooth a series.\nSlowly.", ["smooth --width 9"])
    add_settings(p, Filter, **kw)
    return p


def given(*argv, **kw):
    return given_settings(parser(**kw).parse_args(argv), Filter)


@pytest.mark.parametrize(
    "text, value",
    [
        ("3", 3),
        ("-1", -1),
        ("1e-3", 1e-3),
        ("inf", float("inf")),
        ("None", None),
        ("TRUE", True),
        ("false", False),
        ("slice", "slice"),
        ("500,1000", (500, 1000)),
        ("(500, 1000)", (500, 1000)),
        ("500,,1000", (500, "", 1000)),
        ("none,0.5", (None, 0.5)),
        ("", ""),
    ],
)
def test_words_become_values(text, value):
    assert parse_value(text) == value and type(parse_value(text)) is type(value)


def test_parameters_become_options_with_their_comments():
    text = parser(text="as in the constructor").format_help()
    assert "of the window, in samples; 50 % overlap [5]" in text
    assert "--edge_mode V, --edge-mode V" in text and "beyond the ends [None]" in text
    assert "settings of Filter" in text and "as in the constructor" in text
    assert "Smooth a series.\nSlowly." in text and text.endswith("examples:\n  smooth --width 9\n")


def test_only_what_was_given_is_a_setting():
    assert given() == {}
    assert given("--edge-mode", "none", "--width", "3") == dict(width=3, edge_mode=None)
    assert given("--width", "1,2") == dict(width=(1, 2))


def test_options_can_be_left_out(capsys):
    assert "verbose" not in parser(without=("verbose",)).format_help()
    with pytest.raises(SystemExit):
        given("--verbose", "1", without=("verbose",))
    assert "--verbose" in capsys.readouterr().err


def test_a_former_name_is_understood_and_not_shown():
    former = dict(former={"old_width": "width"})
    assert given("--old_width", "7", **former) == given("--old-width", "7", **former)
    assert given("--old_width", "7", **former) == dict(width=7)
    assert "old" not in parser(**former).format_help()


def run(error, **kw):
    def main(args):
        raise error

    return run_command(main, [], parser(), **kw)


@pytest.mark.parametrize(
    "error, said",
    [
        (ValueError("a is 3"), "a is 3"),
        (TypeError("a is a list"), "a is a list"),
        (KeyError("no metric 'FIT'"), "no metric 'FIT'"),
        (KeyError(), ""),
        (FileNotFoundError(2, "no such file", "x"), "[Errno 2] no such file: 'x'"),
        (ImportError("no dask"), "no dask"),
        (RuntimeError("killed"), "killed"),
        (FloatingPointError("nan"), "nan"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_what_a_user_did_wrong_is_one_line(error, said, capsys):
    with pytest.raises(SystemExit) as e:
        run(error)
    assert e.value.code == 2 and capsys.readouterr().err == f"smooth: {said}\n"


def test_messages_are_translated(capsys):
    with pytest.raises(SystemExit):
        run(ValueError("label=None is right"), words={"label=None": "--label none"})
    assert capsys.readouterr().err == "smooth: --label none is right\n"


def test_an_interruption_and_a_fault_of_ours(capsys):
    with pytest.raises(SystemExit) as e:
        run(KeyboardInterrupt())
    assert e.value.code == 130 and not capsys.readouterr().err
    with pytest.raises(AttributeError):
        run(AttributeError("a fault of the library keeps its traceback"))


def test_what_main_returns_comes_back():
    assert run_command(lambda args: args.width, ["--width", "7"], parser()) == 7


def test_a_message_is_one_line_of_bounded_length(capsys):
    with pytest.raises(SystemExit):
        run(ValueError("y has labels\n" + "x" * 10**6 + "\x1b[31m: leave some out"))
    err = capsys.readouterr().err
    assert len(err) < 1100 and len(err.splitlines()) == 1 and "\x1b" not in err
    assert err.startswith("smooth: y has labels xxx") and err.endswith(": leave some out\n")
