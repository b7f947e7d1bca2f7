"""`help()` of every public name: defaults as they are written, and what each field means."""

import inspect
import pydoc
import re
from dataclasses import dataclass, fields, is_dataclass

import pytest

import mpo_games as mg

PUBLIC = {name: getattr(mg, name) for name in mg.__all__}
CALLABLE = [n for n, one in PUBLIC.items() if inspect.isfunction(one) or inspect.isclass(one)]
RECORDS = [n for n, one in PUBLIC.items() if inspect.isclass(one) and is_dataclass(one)]


@pytest.mark.parametrize("name", CALLABLE)
def test_signatures_print_defaults_as_they_are_written(name):
    try:
        signature = str(inspect.signature(PUBLIC[name]))
    except ValueError:  # a Protocol
        return
    assert " at 0x" not in signature
    assert "<" not in signature


@pytest.mark.parametrize("name", RECORDS)
def test_help_says_what_each_field_means(name):
    shown = pydoc.render_doc(PUBLIC[name], renderer=pydoc.plaintext)
    documented = inspect.getdoc(PUBLIC[name])
    for part in fields(PUBLIC[name]):
        if part.init and not part.name.startswith("_"):
            assert re.search(rf"`{part.name}`|^\s*{part.name}: ", documented, re.MULTILINE), part
            assert re.search(rf"`{part.name}`|^ \|\s*{part.name}: ", shown, re.MULTILINE), part


def test_a_default_is_still_the_value_that_it_was():
    found = inspect.signature(mg.MMD).parameters
    assert found["feedback"].default is mg.current
    assert found["magnet"].default == mg.Fixed()
    assert str(inspect.signature(mg.MMD)).endswith("geometry: 'Shape' = as_given) -> None")
    assert inspect.signature(mg.build_tree).parameters["dilation"].default is mg.dilation.unit


def test_a_class_of_a_user_has_a_signature_and_help_of_its_own():
    @dataclass(frozen=True)
    class Mine(mg.MMD):
        """Mine."""

        more: int = 3

    assert list(inspect.signature(Mine).parameters)[-1] == "more"
    assert inspect.getdoc(Mine) == "Mine."
    assert Mine(0.1, 0.2).more == 3


def test_baselines_print_as_a_short_table_and_name_what_is_close():
    found = mg.baselines()
    lines = repr(found).splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 120
    assert lines[0] == f"{len(found)} baselines"
    assert " ".join(lines[1].split()) == "name games settings on tables settings on trees"
    assert all(name in " ".join(lines) for name in found)
    assert all(name in found._repr_html_() for name in ("MPO", "CFR+", "<table>"))
    assert len(found.table()) == len(found)
    for wrong, close in (("mpo", "'MPO'"), ("cfr plus", "'CFR+'"), ("sppo", "'SPO/SPPO'")):
        with pytest.raises(KeyError, match=re.escape(close)):
            found[wrong]
    with pytest.raises(KeyError, match=r"\.table\(\) has all"):
        found["nope"]
    assert found.get("nope") is None
