"""Each backend under contract in turn, and its shelf of songs."""

import pytest
from backend_contract import CASES, Shelf, example_class

from afp import backends


@pytest.fixture(scope="module", params=[*CASES, pytest.param(None, id="example")])
def backend(request):
    if request.param is None:
        return example_class()()
    name, parameters = request.param
    return backends.create(name, **parameters)


@pytest.fixture(scope="module")
def shelf(backend, tmp_path_factory):
    return Shelf(backend, tmp_path_factory.mktemp("shelf") / "store")
