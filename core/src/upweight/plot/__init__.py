"""Pictures of influences and of the solves behind them, with matplotlib: `upweight[plot]`.

Every function takes arrays of NumPy, or what `numpy.asarray` makes one of, draws into the axes it is
given, or into those of a new figure of pyplot, and returns the axes. None of them shows a figure or
changes a setting. Text from the data is drawn as it stands: a dollar sign begins no formula.
"""

from upweight.errors import ExtraNotInstalledError

try:
    from upweight.plot.heat_map import influence_heat_map
    from upweight.plot.histogram import self_influence_histogram
    from upweight.plot.proponents import proponents
    from upweight.plot.solves import solver_convergence
    from upweight.plot.spectrum import spectrum
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("matplotlib", "scipy"):
        raise
    raise ExtraNotInstalledError(
        f"`upweight.plot` needs {error.name}, which is not installed. "
        'Try `pip install "upweight[plot]"`.'
    ) from error

__all__ = [
    "influence_heat_map",
    "proponents",
    "self_influence_histogram",
    "solver_convergence",
    "spectrum",
]
