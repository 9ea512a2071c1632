"""Without axes a figure is made; without matplotlib it is said what to install."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from upweight import plot

PICTURES = {
    "proponents": lambda: plot.proponents([1.0, -1.0], ["a", "b"]),
    "images": lambda: plot.proponents([1.0, -1.0], np.zeros((2, 4, 4))),
    "heat map": lambda: plot.influence_heat_map([[1.0, -1.0]]),
    "histogram": lambda: plot.self_influence_histogram([1.0, 2.0]),
    "spectrum": lambda: plot.spectrum([1.0, 2.0], damping=0.1),
    "solves": lambda: plot.solver_convergence({"a": SimpleNamespace(steps=[1], residuals=[0.1])}),
}
WITHOUT = """
import sys
sys.modules[{package!r}] = None
import upweight.errors
try:
    import upweight.plot
except upweight.errors.ExtraNotInstalledError as error:
    assert isinstance(error, ImportError)
    assert 'pip install "upweight[plot]"' in str(error) and {package!r} in str(error)
else:
    sys.exit("nothing was raised")
"""


@pytest.mark.parametrize("picture", PICTURES)
def test_without_axes_one_figure_is_made(closed, picture):
    ax = PICTURES[picture]()
    assert closed.get_fignums() == [ax.figure.number]
    ax.figure.canvas.draw()


@pytest.mark.parametrize("package", ["matplotlib", "scipy"])
def test_a_missing_package_names_the_extra(package):
    script = WITHOUT.format(package=package)
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
