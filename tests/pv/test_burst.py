import gc

import pytest

from pv.burst import burst


def test_the_collector_rests_inside_and_is_as_it_was_behind_whatever_happens():
    assert gc.isenabled()
    with burst():
        assert not gc.isenabled()
        with burst():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="x"), burst():
        raise ValueError("x")
    assert gc.isenabled()
