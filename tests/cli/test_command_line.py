"""Commands say what is there, and their exit codes say the answer."""

import json
import subprocess
import sys

import numpy as np
import pytest
import zarr
from calculators.problems import NumpyIdentity, dense, problem
from calculators.stored_runs import factors, influences, interrupted, self_influences
from saved_problems import Objective, saved_problem

from upweight import Backend, hookimpl, plugins
from upweight.cli import main
from upweight.models import CgInfluence

PROBLEM = problem()
ROW = dense(*PROBLEM)[3]
IDS = {"test": [f"test-{i}" for i in range(7)], "train": np.arange(100, 120)}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "result.zarr")


@pytest.fixture
def ask(capsys):
    """Return a function that runs a command and returns its exit code, output and errors."""

    def ask(*arguments):
        code = main([str(one) for one in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return ask


def answer(asked):
    """Return the exit code and the JSON that was written, which has no NaN."""
    code, out, _ = asked

    def refuse(constant):
        raise AssertionError(constant)

    return code, json.loads(out, parse_constant=refuse)


def stored(path, make=influences, **options):
    make(*PROBLEM).to_zarr(path, NumpyIdentity(), **options)
    return path


def spoil(path, *place):
    zarr.open_array(path, mode="r+")[place] = np.nan


@pytest.mark.parametrize("bottom", [False, True])
def test_the_most_extreme_influences_are_those_of_the_dense_matrix(ask, path, bottom):
    more = ["--bottom"] if bottom else []
    code, told = answer(ask("top", stored(path), "--test", 3, "-k", 4, "--json", *more))
    expected = np.argsort(ROW if bottom else -ROW)[:4]
    assert code == 0
    assert [one["index"] for one in told["samples"]] == expected.tolist()
    np.testing.assert_allclose([one["value"] for one in told["samples"]], ROW[expected])


def test_samples_have_their_ids_and_are_named_by_them(ask, path):
    stored(path, component="influences", coords=IDS)
    for name in ("test-3", "3"):
        asked = ask("top", path, "--component", "influences", "--test", name, "-k1", "--json")
        _, told = answer(asked)
        assert told["test"] == {"index": 3, "id": "test-3"}
        best = int(ROW.argmax())
        assert (told["samples"][0]["index"], told["samples"][0]["id"]) == (best, 100 + best)


def test_ids_that_are_numbers_are_never_taken_for_indices(ask, path):
    stored(path, component="i", coords={"test": np.arange(3, 10)})
    _, told = answer(ask("top", path, "--component", "i", "--test", "3", "--json"))
    assert told["test"] == {"index": 0, "id": 3}
    code, _, said = ask("top", path, "--component", "i", "--test", "0")
    assert code == 2
    assert "no test sample '0'" in said


def test_a_number_a_sample_is_ranked_without_a_test_sample(ask, path):
    stored(path, self_influences)
    values = zarr.open_array(path, mode="r")[...]
    _, told = answer(ask("top", path, "-k", 50, "--json"))
    assert [one["index"] for one in told["samples"]] == np.argsort(-values).tolist()
    assert ask("top", path, "--test", 1)[0] == 2


def test_marked_samples_are_left_out_and_told_of(ask, path):
    best = int(ROW.argmax())
    spoil(stored(path), slice(None), best)
    code, told = answer(ask("top", path, "--test", 3, "-k", 20, "--json"))
    assert (code, told["left_out"], len(told["samples"])) == (0, 1, 19)
    assert best not in [one["index"] for one in told["samples"]]
    assert "Left out: 1 of 20 samples" in ask("top", path, "--test", 3)[1]


def test_a_marked_test_sample_has_no_influences(ask, path):
    spoil(stored(path), 3)
    code, told = answer(ask("top", path, "--test", 3, "--json"))
    assert (code, told["samples"], told["left_out"]) == (1, [], 20)
    assert "no numbers" in ask("top", path, "--test", 3)[1]


def test_an_incomplete_result_is_ranked_only_if_asked_for(ask, path):
    interrupted(influences(*PROBLEM), path, after=4)
    code, out, said = ask("top", path, "--test", 3)
    assert (code, out) == (2, "")
    assert "--incomplete" in said
    code, told = answer(ask("top", path, "--test", 3, "--incomplete", "--json"))
    there = len(told["samples"])
    assert (code, told["complete"], there) == (0, False, 7)
    code, out, _ = ask("info", path)
    assert (code, "resume=True" in out) == (1, True)
    code, told = answer(ask("info", path, "--json"))
    assert (code, told["complete"], told["blocks_written"]) == (1, False, 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda *args: influences(*args, "perturbation"), "each coordinate of a training input"),
        (factors, "'sample', 'x0'"),
    ],
    ids=["perturbations", "factors"],
)
def test_what_has_no_order_is_refused(ask, path, make, said):
    code, out, error = ask("top", stored(path, make), "--test", 0)
    assert (code, out) == (2, "")
    assert said in error


@pytest.mark.parametrize(
    "wrong", [["--test", "7"], ["--test", "-1"], [], ["--test", "0", "-k", "0"]]
)
def test_wrong_samples_and_numbers_are_refused_in_one_line(ask, path, wrong):
    code, out, error = ask("top", stored(path), *wrong)
    assert (code, out, error.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("command", ["info", "top"])
def test_what_is_no_store_is_refused_in_one_line(ask, tmp_path, command):
    (tmp_path / "file").write_text("no store")
    for place in (tmp_path, tmp_path / "file", tmp_path / "nowhere"):
        code, out, error = ask(command, place)
        assert (code, out, error.count("\n")) == (2, "", 1)
        assert "no Zarr array or group" in error


def test_a_result_says_who_made_it(ask, path):
    code, told = answer(ask("info", stored(path), "--json"))
    assert code == 0
    assert (told["shape"], told["axes"]) == ([7, 20], ["test", "train"])
    assert told["identity"]["method"] == "TalliedInfluence"
    assert told["blocks_written"] == told["blocks"]
    assert "method: TalliedInfluence" in ask("info", path)[1]


def test_a_group_lists_its_components(ask, path):
    stored(path, component="influences", coords=IDS)
    code, told = answer(ask("info", path, "--json"))
    kinds = {name: one["kind"] for name, one in told["components"].items()}
    assert (code, kinds) == (0, {"influences": "result", "test": "ids", "train": "ids"})
    assert "there are influences." in ask("top", path, "--test", 0)[2]


def test_an_array_of_others_is_not_known_to_be_complete(ask, path):
    zarr.create_array(path, shape=(3,), dtype="float64")
    code, told = answer(ask("info", path, "--json"))
    assert (code, told["written_by_upweight"], told["complete"]) == (1, False, False)


def test_a_saved_model_says_method_and_options(ask, path):
    model, batches, _ = saved_problem()
    CgInfluence(Objective(model, 1.0), regularization=0.1).fit(batches, progress=False).save(path)
    code, told = answer(ask("info", path, "--json"))
    assert (code, told["kind"], told["method"]) == (0, "model", "CgInfluence")
    assert told["options"]["regularization"] == {"full": 0.1}
    zarr.open_group(path, mode="r+").attrs["upweight"] = {"kind": "model", "complete": False}
    assert ask("info", path)[0] == 1
    assert ask("top", path)[0] == 2


def test_a_report_is_written_and_told_of(ask, path, tmp_path):
    stored(path)
    labels, texts, page = tmp_path / "labels.npy", tmp_path / "texts.txt", tmp_path / "page.html"
    np.save(labels, np.arange(20))
    texts.write_text("\n".join(f"sample number {i}\u2028" for i in range(20)) + "\n", "utf-8")
    more = ["--train-labels", labels, "--train-samples", texts, "--test", 3, "--test", 0]
    code, told = answer(ask("report", path, "-o", page, *more, "--json"))
    assert (code, told["tests"], told["tests_in_result"]) == (0, 2, 7)
    assert (told["path"], told["bytes"]) == (str(page), page.stat().st_size)
    assert "sample number" in page.read_text("utf-8")
    code, out, said = ask("report", path, "-o", page)
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert "already" in said
    code, out, _ = ask("report", path, "-o", page, "--overwrite")
    assert (code, "7 of 7 test samples" in out) == (0, True)


def test_files_with_pickled_objects_are_not_read(ask, path, tmp_path):
    labels = tmp_path / "labels.npy"
    np.save(labels, np.array([{}] * 20), allow_pickle=True)
    code, _, said = ask("report", stored(path), "-o", tmp_path / "p.html", "--train-labels", labels)
    assert (code, "Python objects" in said) == (2, True)


def test_an_incomplete_result_is_reported_only_if_asked_for(ask, path, tmp_path):
    interrupted(influences(*PROBLEM), path, after=4)
    page = tmp_path / "page.html"
    code, _, said = ask("report", path, "-o", page)
    assert (code, "--incomplete" in said, page.exists()) == (2, True, False)
    assert ask("report", path, "-o", page, "--incomplete")[0] == 0
    assert "Incomplete" in page.read_text()


class Plugin:
    """A backend with one method, or one whose framework is not there."""

    def __init__(self, name, *, broken):
        self.name, self.broken = name, broken

    @hookimpl
    def upweight_backend(self, name):
        if self.broken:
            raise OSError("no framework\ntoday")
        return Backend(name, dict, dict, list, list, {"direct": dict}, frozenset({"Layers"}))


@pytest.mark.parametrize("broken", [False, True])
def test_backends_say_what_they_can_do_or_why_they_are_broken(ask, monkeypatch, broken):
    monkeypatch.setattr(plugins, "_installed", lambda name=None: [])
    plugins._manager.cache_clear()
    assert ask("backends")[0] == 1  # there is none
    plugins.register(Plugin("mine", broken=broken), "mine")
    try:
        code, told = answer(ask("backends", "--json"))
        shown = ask("backends")[1]
    finally:
        plugins._manager.cache_clear()
    (mine,) = told["backends"]
    assert (code, mine["usable"]) == (int(broken), not broken)
    assert ("no framework today" in mine["error"]) if broken else mine["methods"] == ["direct"]
    assert ("broken: " if broken else "capabilities: Layers") in shown


@pytest.mark.parametrize("command", [[], ["backends"], ["info"], ["top"], ["report"]])
def test_help_has_examples_and_exit_codes(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert "examples:" in shown
    assert "exit codes:" in shown


def test_wrong_usage_is_2():
    with pytest.raises(SystemExit) as ended:
        main(["nothing"])
    assert ended.value.code == 2


def test_the_package_runs_as_a_program(path):
    command = [sys.executable, "-m", "upweight", "top", stored(path), "--test", "3", "-k", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert str(int(ROW.argmax())) in done.stdout
    assert done.stderr == ""


def test_nothing_heavy_is_imported_before_the_arguments_are_parsed():
    script = (
        "import sys\nfrom upweight.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(' '.join({'numpy', 'zarr', 'dask', 'pluggy'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
