"""Every command that a person or CI runs. `nox` runs the default sessions, `nox -l` lists all."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
# A Python that is not on this machine is reported and skipped, on CI as well.
nox.options.error_on_missing_interpreters = False
# The session with the most tests comes last.
nox.options.sessions = [
    *("lint", "types", "imports", "core", "third_party", "minimums"),
    *("docs", "site", "example", "example_jax", "examples", "both", "jax", "torch"),
]

PYTHONS = ["3.11", "3.12", "3.13"]
CONSTRAINTS = "constraints.txt"
GROUPS = nox.project.load_toml("pyproject.toml")["dependency-groups"]
BENCHMARKS = [
    *("primitives", "cost_model", "ekfac", "preconditioners", "block_solver"),
    *("rankings", "perturbations", "growth", "against_kronfluence", "against_pydvl", "calculators"),
    "datamodeling",
]
CORE = ["--editable", "./core"]
TORCH = [*CORE, "--editable", "./backends/torch"]
JAX = [*CORE, "--editable", "./backends/jax"]
#: Pythons for which there is a CPU wheel of torch where CI runs; the index itself has wheels that
#: bring several gigabytes of CUDA. Where you have others, name them: UPWEIGHT_TORCH="3.11 3.12".
TORCH_PYTHONS = os.environ.get("UPWEIGHT_TORCH", "3.11").split()
#: What is tested of the JAX backend on the newest Python; compiling takes too long for more.
PORTABLE = [
    *("test_plugin.py", "test_converter.py", "test_derivatives.py::test_gradients"),
    *(
        "test_derivatives.py::test_hessian_product",
        "test_sharing.py::test_a_fitted_model_may_be_sent",
    ),
]
#: What a lowest version is tested of.
LOWEST = {
    *(
        "array-api-compat",
        "dask",
        "distributed",
        "fsspec",
        "lazy-loader",
        "numpy",
        "psutil",
        "tqdm",
    ),
    "zarr",
}
EXAMPLE_BACKEND = Path("tests/example_backend")


def show_pyenv_pythons() -> None:
    """Let nox see every Python that pyenv has installed, activated or not."""
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    installed = [path.name for python in PYTHONS for path in root.glob(f"versions/{python}.*")]
    if installed and "PYENV_VERSION" not in os.environ:
        os.environ["PYENV_ROOT"] = str(root)
        os.environ["PYENV_VERSION"] = ":".join(installed)


def find_links() -> list[str]:
    """List the places, besides the index, where pip is configured to look for wheels."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    settings = subprocess.run(pip, capture_output=True, text=True, check=False).stdout
    links = []
    for setting in settings.splitlines():
        key, _, value = setting.partition("=")
        if key.endswith(".find-links"):
            links += ast.literal_eval(value).split()
    return list(dict.fromkeys(links))


show_pyenv_pythons()
# uv does not read pip's settings.
os.environ.setdefault("UV_FIND_LINKS", ",".join(find_links()))


def install(
    session: nox.Session, *requirements: str, group: str, constraints: str = CONSTRAINTS
) -> None:
    """Install a dependency group and what else is asked for, in tested versions."""
    env = build_constraint(constraints)
    session.install("--constraint", constraints, *GROUPS[group], *requirements, env=env)


def build_constraint(constraints: str) -> dict[str, str]:
    """Constrain the environments, too, in which pip and uv build our wheels."""
    return {"PIP_BUILD_CONSTRAINT": constraints, "UV_BUILD_CONSTRAINT": constraints}


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    install(session, group="lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of all distributions, strictly."""
    install(session, *TORCH, *JAX, group="types")
    session.run("mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """Check who may import whom."""
    install(session, group="imports")
    # The sources are read, not run: nothing needs to be installed.
    sources = [*Path().glob("core/src"), *Path().glob("backends/*/src")]
    search_path = os.pathsep.join(map(str, sources))
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": search_path})


@nox.session(python=PYTHONS)
def core(session: nox.Session) -> None:
    """Test core where no framework is installed."""
    folders, chosen = ["cli", "core", "plugins"], []
    if session.python == PYTHONS[-1]:  # what is sent to workers depends on Python
        folders += ["calculators/test_dask_storing.py", "evaluation"]
    if session.python == PYTHONS[0]:
        extras = [*GROUPS["plot"], *GROUPS["report"], *GROUPS["stores"]]
        install(session, *CORE, *extras, group="test")
        folders += [
            "calculators",
            "conformance",
            "evaluation",
            "models",
            "plot",
            "report",
            "stores",
        ]
    else:
        install(session, *CORE, group="test")
        # What the array standard allows, or a kill leaves behind, does not depend on Python.
        chosen = ["-k", "not array_api_strict and not killed"]
    tests = [*(f"tests/{folder}" for folder in folders), *Path("tests").glob("test_*.py")]
    run_tests(session, *tests, *chosen)


@nox.session(python=PYTHONS[0], venv_backend="uv")
def minimums(session: nox.Session) -> None:
    """Test core with the lowest versions that it declares."""
    session.install("--resolution", "lowest-direct", *CORE)
    lowest = session.run("uv", "pip", "freeze", "--exclude-editable", silent=True)
    # What the tests need comes in tested versions, and moves nothing that is there but pluggy.
    kept = [line for line in lowest.splitlines() if line.split("==")[0] in LOWEST]
    tools = [tool for tool in GROUPS["test"] if not tool.startswith("scikit-learn")]
    session.install(*tools, *kept)
    folders = ["core", "calculators", "evaluation", "plugins", "models/test_accuracy.py"]
    run_tests(session, *(f"tests/{folder}" for folder in folders), "-k", "not array_api_strict")


@nox.session(python=PYTHONS)
def torch(session: nox.Session) -> None:
    """Test the torch backend, and the methods of core on tensors; `core` has run the others."""
    if session.python not in TORCH_PYTHONS:
        session.skip(f"a CPU wheel of torch is known for Python {', '.join(TORCH_PYTHONS)} only")
    install(session, *TORCH, group="test")
    run_tests(session, "tests/models", "-k", "torch")
    folders = ["torch_backend", "conformance/test_torch.py"]
    run_tests(session, *(f"tests/{folder}" for folder in folders), *Path("tests").glob("test_*.py"))


@nox.session(python=[PYTHONS[0], PYTHONS[-1]])
def jax(session: nox.Session) -> None:
    """Test the JAX backend, with torch not installed."""
    install(session, *JAX, *GROUPS["jax"], group="test")
    first = session.python == PYTHONS[0]
    tests = [f"tests/jax_backend/{test}" for test in ([""] if first else PORTABLE)]
    run_tests(session, *tests, *Path("tests").glob("test_*.py"))


@nox.session
def both(session: nox.Session) -> None:
    """Test that the backends stand side by side, and give the same numbers."""
    editable = [*TORCH, *JAX, "--editable", f"./{EXAMPLE_BACKEND}"]
    install(session, *editable, *GROUPS["jax"], group="test")
    plugins = [f"tests/{backend}_backend/test_plugin.py" for backend in ("jax", "torch")]
    tests = ["tests/plugins", *plugins, *Path("tests").glob("test_*.py")]
    run_tests(session, "--dist", "loadgroup", "tests/agreement", *tests)


@nox.session
def docs(session: nox.Session) -> None:
    """Run the Python code of the README and of the documentation, with nothing but wheels."""
    wheels = Path(session.create_tmp())
    for folder in ("./core", "./backends/jax", "./backends/torch", f"./{EXAMPLE_BACKEND}"):
        build_wheel(session, folder, wheels)
    install(session, *map(str, wheels.glob("*.whl")), *GROUPS["jax"], group="docs")
    run_tests(session, "tests/docs")


@nox.session
def site(session: nox.Session) -> None:
    """Build the documentation site into `site/`, strictly; nothing is fetched for it."""
    install(session, group="site")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})
    session.run("pytest", "tests/site", *session.posargs)


@nox.session
def example(session: nox.Session) -> None:
    """Run the main job, find the mislabeled digits, as a user of torch has it installed."""
    install_wheels(session, "torch", without="jax")
    session.run("python", "docs/examples/mislabeled_digits.py", *session.posargs)


@nox.session
def example_jax(session: nox.Session) -> None:
    """Run the main job in JAX, as a user of JAX has it installed."""
    install_wheels(session, "jax", *GROUPS["jax"], without="torch")
    session.run("python", "docs/examples/mislabeled_digits_jax.py", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """Run the other examples, as a user of torch has it installed."""
    install_wheels(session, "torch", *GROUPS["text"], without="jax")
    run_tests(session, "tests/examples")


@nox.session
def third_party(session: nox.Session) -> None:
    """Try the backend of a third party with the kit, with nothing but wheels installed."""
    folder = Path(session.create_tmp()).resolve()
    for source in ("./core", f"./{EXAMPLE_BACKEND}"):
        build_wheel(session, source, folder)
    (core,), (example,) = folder.glob("upweight-*.whl"), folder.glob("upweight_autograd-*.whl")
    env = build_constraint(CONSTRAINTS)
    session.install("-c", CONSTRAINTS, f"upweight[testing] @ {core.as_uri()}", example, env=env)
    found = folder / "autograd.json"
    shutil.copy(EXAMPLE_BACKEND / "tests/test_conformance.py", folder)
    with session.chdir(folder):  # where nothing of the repository is on the path
        session.run("python", "-m", "upweight.testing", "autograd", "--json", found)
        session.run("pytest", "-c", os.devnull, "--rootdir", folder, "test_conformance.py", "-q")
    session.run("python", "docs/support.py", "--check", found)


def run_tests(session: nox.Session, *arguments: str | Path) -> None:
    """Run tests in one process for each core, each of one thread."""
    env = {
        "OMP_NUM_THREADS": "1",
        # What JAX has compiled is kept for the other processes, and for the next session.
        "JAX_COMPILATION_CACHE_DIR": str(Path(session.cache_dir, "jax").resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    session.run("pytest", "-n", "auto", *arguments, *session.posargs, env=env)


def install_wheels(session: nox.Session, backend: str, *others: str, without: str) -> None:
    """Install the wheels of core and one backend, and check that the other framework is not there."""
    wheels = Path(session.create_tmp()).resolve()
    for folder in ("./core", f"./backends/{backend}"):
        build_wheel(session, folder, wheels)
    (core,), (mine,) = wheels.glob("upweight-*.whl"), wheels.glob(f"upweight_{backend}-*.whl")
    install(session, f"upweight[{backend}] @ {core.as_uri()}", str(mine), *others, group="example")
    absent = (
        f"import importlib.util, sys; sys.exit(importlib.util.find_spec({without!r}) is not None)"
    )
    session.run("python", "-c", absent)


def build_wheel(session: nox.Session, folder: str, wheels: Path) -> None:
    """Build one wheel in an environment of its own."""
    if session.venv_backend == "uv":
        command = ["uv", "build", "--wheel", "--out-dir", wheels, folder]
    else:
        command = ["pip", "wheel", "--no-deps", "--wheel-dir", wheels, folder]
    session.run(*command, env=build_constraint(CONSTRAINTS))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against pyDVL, which needs an older NumPy, and kronfluence; or one script by name."""
    install(session, *TORCH, group="bench", constraints="tests/benchmarks/constraints.txt")
    name, *arguments = session.posargs or [None]
    for script in [name] if name else BENCHMARKS:
        # The scripts keep torch to one thread; this does it for NumPy.
        path = f"tests/benchmarks/{script}.py"
        session.run("python", path, *arguments, env={"OMP_NUM_THREADS": "1"})


@nox.session
def bench_frameworks(session: nox.Session) -> None:
    """Measure the JAX backend against the torch backend."""
    install(session, *TORCH, *JAX, *GROUPS["jax"], group="example")
    session.run("python", "tests/benchmarks/frameworks.py", *session.posargs)
