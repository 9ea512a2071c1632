"""Pictures are drawn without a screen, and leave everything as they found it."""

import matplotlib as mpl
import pytest

mpl.use("Agg")


@pytest.fixture
def ax():
    """Return axes of which pyplot knows nothing; when they are drawn, no state has changed."""
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    settings, figures = dict(mpl.rcParams), plt.get_fignums()
    axes = Figure().subplots()
    yield axes
    axes.figure.canvas.draw()
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == figures


@pytest.fixture
def closed():
    """Close the figures of pyplot that a test has made."""
    from matplotlib import pyplot as plt

    yield plt
    plt.close("all")
