"""The array namespaces that methods run on without a framework."""

import array_api_strict
import numpy as np
import pytest


@pytest.fixture(params=[np, array_api_strict], ids=["numpy", "array_api_strict"])
def xp(request):
    return request.param
