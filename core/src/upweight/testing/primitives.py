"""Primitives: every derivative is that of the oracle, for any number of rows and samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from upweight.errors import UnsupportedCurvatureError
from upweight.models._streams import RowStreams
from upweight.testing import oracle
from upweight.testing.base import Conformance
from upweight.testing.problem import PIECES, Problem, assert_close, by_layer
from upweight.testing.reference import LAYERS, SHAPES, TRANSPOSED, P

#: Samples: all, some, one.
SAMPLES = {"all": slice(None), "some": slice(2, 6), "one": slice(3, 4)}
SOME_SAMPLES = pytest.mark.parametrize("rows", SAMPLES.values(), ids=SAMPLES)

#: Numbers of rows, one, a few and more than there are parameters, with samples.
SOME_ROWS = pytest.mark.parametrize(
    ("k", "rows"),
    [(k, SAMPLES[name]) for k, name in ((1, "all"), (4, "some"), (4, "one"), (P + 5, "all"))],
    ids=["one row", "rows", "one sample", "many rows"],
)

#: Labels drawn for each of the samples whose second moment is looked at.
DRAWS = 4000

#: Standard errors that a mean over the draws may be off.
STANDARD_ERRORS = 6


class PrimitivesConformance(Conformance):
    """Every derivative is that of the oracle, for any number of rows and samples."""

    def test_parameters_have_the_shapes_of_the_reference(self, problem: Problem) -> None:
        expected = [
            SHAPES[entry.removesuffix(TRANSPOSED)][:: -1 if entry.endswith(TRANSPOSED) else 1]
            for entry in problem.order
        ]
        assert [tuple(shape) for shape in problem.objective.parameters.values()] == expected

    def test_the_type_is_that_of_the_weights(self, problem: Problem) -> None:
        assert problem.objective.dtype == np.dtype(problem.dtype)

    @pytest.mark.parametrize("k", [0, 1, 3])
    def test_zeros(self, problem: Problem, k: int) -> None:
        assert_close(problem.numpy(problem.objective.zeros(k)), np.zeros((k, P)), 0)

    @SOME_SAMPLES
    def test_losses(self, problem: Problem, rows: slice) -> None:
        actual = problem.objective.losses(problem.batch(problem.train, rows))
        x, y = problem.train
        expected = oracle.losses(problem.weights, x[rows], y[rows])
        assert_close(problem.numpy(actual), expected, problem.tolerance)

    @SOME_SAMPLES
    def test_gradients(self, problem: Problem, rows: slice) -> None:
        actual = problem.objective.gradients(problem.batch(problem.train, rows))
        x, y = problem.train
        expected = oracle.gradients(problem.weights, x[rows], y[rows])
        assert_close(problem.vectors(actual), expected, problem.tolerance)

    @SOME_ROWS
    def test_inner_products(self, problem: Problem, rows: slice, k: int) -> None:
        vectors = problem.random_vectors(k)
        batch = problem.batch(problem.train, rows)
        actual = problem.objective.inner_products(problem.rows(vectors), batch)
        x, y = problem.train
        expected = vectors @ oracle.gradients(problem.weights, x[rows], y[rows]).T
        assert_close(problem.numpy(actual), expected, problem.tolerance)

    @SOME_ROWS
    def test_hessian_product(self, problem: Problem, rows: slice, k: int) -> None:
        vectors = problem.random_vectors(k)
        batch = problem.batch(problem.train, rows)
        actual = problem.objective.hessian_product(problem.rows(vectors), batch)
        x, y = problem.train
        expected = vectors @ oracle.hessian(problem.weights, x[rows], y[rows])
        assert_close(problem.vectors(actual), expected, problem.tolerance)

    @SOME_ROWS
    def test_gauss_newton_product(self, problem: Problem, rows: slice, k: int) -> None:
        problem.need("SupportsGaussNewton")
        vectors = problem.random_vectors(k)
        batch = problem.batch(problem.train, rows)
        actual = problem.objective.gauss_newton_product(problem.rows(vectors), batch)
        expected = vectors @ oracle.gauss_newton(problem.weights, problem.train[0][rows])
        assert_close(problem.vectors(actual), expected, problem.tolerance)

    @pytest.mark.parametrize("curvature", ["hessian", "gauss_newton"])
    def test_linearised_products(self, problem: Problem, curvature: str) -> None:
        problem.need("SupportsLinearisedProducts")
        if curvature == "gauss_newton":
            problem.need("SupportsGaussNewton")
        (x, y), batch = problem.train, problem.batch(problem.train)
        products = getattr(problem.objective, f"{curvature}_products")(batch)
        matrix = (
            oracle.hessian(problem.weights, x, y)
            if curvature == "hessian"
            else oracle.gauss_newton(problem.weights, x)
        )
        for k in (3, 1, 3):
            vectors = problem.random_vectors(k)
            actual = problem.vectors(products(problem.rows(vectors)))
            assert_close(actual, vectors @ matrix, problem.tolerance)

    @SOME_ROWS
    def test_input_gradients(self, problem: Problem, rows: slice, k: int) -> None:
        vectors = problem.random_vectors(k)
        batch = problem.batch(problem.train, rows)
        actual = problem.objective.input_gradients(problem.rows(vectors), batch)
        x, y = problem.train
        expected = oracle.input_gradients(vectors, problem.weights, x[rows], y[rows])
        assert_close(problem.numpy(actual), expected, problem.tolerance)

    @SOME_SAMPLES
    def test_hessian(self, problem: Problem, rows: slice) -> None:
        problem.need("SupportsDenseHessian")
        actual = problem.objective.hessian(problem.batch(problem.train, rows))
        x, y = problem.train
        expected = oracle.hessian(problem.weights, x[rows], y[rows])
        place = np.argsort(problem.columns)
        assert_close(problem.numpy(actual)[np.ix_(place, place)], expected, problem.tolerance)

    @pytest.mark.parametrize(
        ("name", "capability"),
        [
            ("inner_products", None),
            ("hessian_product", None),
            ("input_gradients", None),
            ("gauss_newton_product", "SupportsGaussNewton"),
        ],
    )
    def test_products_are_linear_in_the_rows(
        self, problem: Problem, name: str, capability: str | None
    ) -> None:
        problem.need(*filter(None, [capability]))
        function, batch = getattr(problem.objective, name), problem.batch(problem.train)
        vectors = problem.random_vectors(4)
        vectors[3] = 0
        whole = problem.numpy(function(problem.rows(vectors), batch))
        scaled = problem.numpy(function(problem.rows(1024 * vectors), batch))
        summed = problem.numpy(function(problem.rows(vectors[:1] + vectors[1:2]), batch))
        assert_close(scaled, 1024 * whole, problem.tolerance)
        assert_close(summed[0], whole[0] + whole[1], problem.tolerance)
        assert_close(whole[3], np.zeros_like(whole[3]), 0)

    @pytest.mark.parametrize(
        ("name", "capability"),
        [("hessian_product", None), ("gauss_newton_product", "SupportsGaussNewton")],
    )
    def test_curvatures_are_symmetric(
        self, problem: Problem, name: str, capability: str | None
    ) -> None:
        problem.need(*filter(None, [capability]))
        function = getattr(problem.objective, name)
        matrix = problem.vectors(function(problem.rows(np.eye(P)), problem.batch(problem.train)))
        assert_close(matrix, matrix.T, problem.tolerance)

    @pytest.mark.parametrize(
        "names",
        [LAYERS["head"], ["hidden.weight", "head.bias"]],
        ids=["head", "across layers"],
    )
    def test_restricted_derivatives_are_those_in_the_named_parameters(
        self, problem: Problem, names: Sequence[str]
    ) -> None:
        full = problem.objective
        kept = [own for own in full.parameters if own in {problem.names[name] for name in names}]
        restricted = full.restrict(kept)
        assert list(restricted.parameters) == kept
        columns = np.concatenate(
            [np.full(int(np.prod(shape)), own in kept) for own, shape in full.parameters.items()]
        )
        own_rows = problem.random_vectors(4) * columns
        batch = problem.batch(problem.train)
        whole, part = problem.array(own_rows), problem.array(own_rows[:, columns])

        def agree(name: str, *arguments: Any, expected: Any) -> None:
            actual = problem.numpy(getattr(restricted, name)(*arguments, batch))
            assert_close(actual, expected, problem.tolerance)

        agree("gradients", expected=problem.numpy(full.gradients(batch))[:, columns])
        agree("losses", expected=problem.numpy(full.losses(batch)))
        for name in ("inner_products", "input_gradients"):
            agree(name, part, expected=problem.numpy(getattr(full, name)(whole, batch)))
        product = problem.numpy(full.hessian_product(whole, batch))
        agree("hessian_product", part, expected=product[:, columns])
        assert tuple(restricted.zeros(2).shape) == (2, columns.sum())

    def test_unknown_parameters_are_refused(self, first: Problem) -> None:
        with pytest.raises(ValueError):  # noqa: PT011  # the message is the backend's own
            first.objective.restrict(["no parameter has this name"])

    @pytest.mark.parametrize("d", [None, 1, 3], ids=["loss", "one direction", "directions"])
    def test_layers_rebuild_the_gradients(self, problem: Problem, d: int | None) -> None:
        problem.need("SupportsLayers")
        x, y = problem.train
        directions = np.random.default_rng(0).normal(size=(d or 1, len(x), 3))
        if d is None:
            statistics = problem.objective.layers(problem.batch(problem.train))
            directions = oracle.slopes(problem.weights, x, y)[None]
        else:
            statistics = problem.objective.layers(
                problem.batch(problem.train), problem.array(directions)
            )
        found = by_layer(problem, statistics)
        assert sorted(found) == sorted(LAYERS), "layers of the network are not covered"
        for layer, names in LAYERS.items():
            weight, bias = (problem.names[name] for name in names)
            assert (found[layer].weight, found[layer].bias) == (weight, bias)
            inputs, gradients = problem.numpy(found[layer].inputs), found[layer].gradients
            gradients = problem.numpy(gradients).reshape(len(directions), *gradients.shape[-3:])
            for direction, gradient in zip(directions, gradients, strict=True):
                a, g = oracle.layers(problem.weights, x, direction)[layer]
                rebuilt = np.einsum("nto,nti->noi", gradient, inputs)
                assert_close(rebuilt, g[:, :, None] * a[:, None, :], problem.tolerance)
                assert_close(gradient.sum(1), g, problem.tolerance)

    def test_output_hessians(self, problem: Problem) -> None:
        problem.need("SupportsLayers")
        actual = problem.objective.output_hessians(problem.batch(problem.train))
        expected = oracle.output_hessians(problem.weights, problem.train[0])
        assert_close(problem.numpy(actual), expected, problem.tolerance)

    def test_output_gradients(self, problem: Problem) -> None:
        problem.need("SupportsOutputGradients")
        directions = np.random.default_rng(0).normal(size=(2, len(problem.train[0]), 3))
        actual = problem.objective.output_gradients(
            problem.batch(problem.train), problem.array(directions)
        )
        expected = [
            oracle.output_gradients(problem.weights, problem.train[0], u) for u in directions
        ]
        assert_close(problem.vectors(actual), np.stack(expected), problem.tolerance)

    def test_sampled_directions_have_the_second_moment_of_the_output_hessian(
        self, first: Problem
    ) -> None:
        x, y = (np.repeat(values[:3], DRAWS, axis=0) for values in first.train)
        drawn = _sampled(first, (x, y), slice(None))
        outer = (drawn[:, :, None] * drawn[:, None, :]).reshape(3, DRAWS, 3, 3)
        expected = oracle.output_hessians(first.weights, first.train[0][:3])
        allowed = STANDARD_ERRORS * outer.std(1) / DRAWS**0.5
        assert (np.abs(outer.mean(1) - expected) <= allowed).all()

    def test_sampled_directions_do_not_depend_on_the_batches(self, first: Problem) -> None:
        whole = _sampled(first, first.train, slice(None))
        pieces = [_sampled(first, first.train, rows) for rows in PIECES]
        assert_close(np.concatenate(pieces), whole, first.tolerance)


def _sampled(problem: Problem, samples: Any, rows: slice) -> Any:
    problem.need("SupportsLayers")
    rng = RowStreams([0], rows.start or 0)
    try:
        drawn = problem.objective.sampled_directions(problem.batch(samples, rows), rng)
    except UnsupportedCurvatureError:
        pytest.skip(f"{problem.backend.name} draws no labels for this loss")
    return problem.numpy(drawn)
