import pytest

from pv.cli import COMMANDS, main


@pytest.mark.parametrize("flag", ["--strct", "--str", "--binding"])
def test_a_flag_that_a_command_does_not_have_is_refused_with_those_that_it_has(flag, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["validate", flag, "contracts"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("usage: pv validate ")
    assert "--strict" in told
    assert f"pv validate: error: unrecognized arguments: {flag}" in told


def test_an_unknown_command_is_answered_with_all_of_them(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["validat"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert all(f"'{name}'" in told or name in told for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_what_it_does(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: pv {name}" in capsys.readouterr().out


def test_an_empty_argument_does_not_mean_the_current_folder(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["validate", ""])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("pv validate: error: an argument is empty: a variable that is not set?\n")
