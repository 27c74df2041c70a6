"""What docs/zh/basics/autograd.md claims."""

import ast
import inspect
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from snippets.basics import autograd as chapter

XS = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)  # the three points on y = 2 x
CURVATURE = 28 / 3  # 2 * mean(x**2)


def leaf(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(value, dtype=dtype, requires_grad=True)


# Guess and failure: forgetting to clear the gradient


def test_the_loss_of_the_three_points_is_the_stated_parabola():
    for w in (-1.0, 0.5, 1.0, 3.0):
        loss = ((w * XS - 2 * XS) ** 2).mean().item()
        assert loss == pytest.approx(14 / 3 * (w - 2) ** 2)
        gradient = chapter.autograd_gradient(
            lambda v: ((v * XS - 2 * XS) ** 2).mean(), torch.tensor([w], dtype=torch.float64)
        )
        assert gradient.item() == pytest.approx(28 / 3 * (w - 2))


def test_the_table_of_six_steps_is_exact_and_closes():
    w, total, rows = Fraction(1), Fraction(0), []
    for _ in range(6):
        gradient = Fraction(28, 3) * (w - 2)
        total += gradient
        before, w = w, w - Fraction(3, 28) * total
        rows.append((before, gradient, total, w))
    g = Fraction(28, 3)
    assert rows == [
        (1, -g, -g, 2),
        (2, 0, -g, 3),
        (3, g, 0, 3),
        (3, g, g, 2),
        (2, 0, g, 1),
        (1, -g, 0, 1),
    ]


def test_without_clearing_the_run_repeats_every_six_steps():
    path = chapter.fit_slope(XS, 2 * XS, lr=3 / 28, steps=600, clear=False)
    expected = [1, 2, 3, 3, 2, 1] * 100 + [1]
    # Rounding errors of 600 steps in float64 add up to far less than 1e-9.
    assert path == pytest.approx(expected, abs=1e-9)


def test_with_clearing_one_step_arrives_and_stays():
    path = chapter.fit_slope(XS, 2 * XS, lr=3 / 28, steps=600, clear=True)
    assert path[1:] == pytest.approx([2] * 600, abs=1e-9)


def test_a_small_learning_rate_does_not_cure_it():
    for lr in (0.1, 0.01, 0.001):
        path = chapter.fit_slope(XS, 2 * XS, lr, steps=2000, clear=False)
        # The swing is at least as wide at the end as at the start (period 199 steps at 0.001).
        assert max(abs(w - 2) for w in path[-250:]) > 0.99


def test_the_gradient_loop_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = chapter.fit_slope(XS, 2 * XS, lr=0.01, steps=50, clear=False)
    assert all(math.isfinite(w) for w in path)


# The graph


def test_the_example_gives_9_and_a_gradient_of_1_5():
    tensors = chapter.graph_example(torch.ones(2, 2, requires_grad=True))
    tensors["t"].backward()
    assert tensors["t"].item() == 9
    assert torch.equal(tensors["x"].grad, torch.full((2, 2), 1.5))


def test_the_node_exists_before_backward_and_before_the_rest_of_the_forward_pass():
    x = torch.ones(2, 2, requires_grad=True)
    y = x + 2
    assert type(y.grad_fn).__name__ == "AddBackward0"
    assert x.grad is None


def test_leaves_and_results():
    tensors = chapter.graph_example(torch.ones(2, 2, requires_grad=True))
    assert [t.is_leaf for t in tensors.values()] == [True, False, False, False]
    assert all(t.requires_grad for t in tensors.values())
    assert tensors["x"].grad_fn is None
    with torch.no_grad():
        assert (2 * tensors["x"]).is_leaf
    tensors = chapter.graph_example(torch.ones(2, 2))
    assert not any(t.requires_grad for t in tensors.values())


def test_one_input_that_requires_grad_is_enough():
    assert (torch.ones(2) * torch.ones(2, requires_grad=True)).requires_grad


def test_walk_graph_finds_both_edges_of_y_times_y():
    t = chapter.graph_example(torch.ones(2, 2, requires_grad=True))["t"]
    assert chapter.walk_graph(t) == [
        ("MeanBackward0", [1]),
        ("MulBackward0", [2, 2]),
        ("AddBackward0", [3]),
        ("AccumulateGrad", []),
    ]


def test_walk_graph_leaves_out_what_needs_no_gradient():
    assert chapter.walk_graph(torch.ones(2) * 3) == []
    assert chapter.walk_graph(torch.ones(2) * leaf(1.0)) == [
        ("MulBackward0", [1]),
        ("AccumulateGrad", []),
    ]


def test_accumulate_grad_holds_the_leaf():
    x = torch.ones(2, requires_grad=True)
    assert (x + 2).grad_fn.next_functions[0][0].variable is x


def test_the_figure_draws_the_nodes_that_walk_graph_finds():
    figure = chapter.figure_graph()
    drawn = {text.get_text() for text in figure.axes[0].texts}
    t = chapter.graph_example(torch.ones(2, 2, requires_grad=True))["t"]
    assert {name for name, _ in chapter.walk_graph(t)} <= drawn


@pytest.mark.parametrize(("start", "doublings"), [(1.0, 7), (30.0, 2), (200.0, 0)])
def test_the_shape_of_the_graph_depends_on_the_data(start, doublings):
    x = leaf(start)
    y = chapter.double_until(x, limit=100.0)
    assert y.item() == start * 2**doublings
    names = [name for name, _ in chapter.walk_graph(y)]
    assert names == (["MulBackward0"] * doublings + ["AccumulateGrad"] if doublings else [])
    if doublings:
        y.backward()
        assert x.grad.item() == 2**doublings


def test_what_each_operation_saves():
    x = torch.linspace(0.1, 1.0, 5, requires_grad=True)
    assert chapter.saved_tensors(lambda x: x + 2, x) == []
    assert chapter.saved_tensors(lambda x: x.mean(), x) == []
    assert [t.data_ptr() for t in chapter.saved_tensors(lambda x: x * x, x)] == [x.data_ptr()] * 2
    (kept,) = chapter.saved_tensors(torch.tanh, x)
    assert torch.equal(kept, torch.tanh(x))
    X = torch.ones(4, 5)
    (kept,) = chapter.saved_tensors(lambda w: X @ w, x)
    assert torch.equal(kept, X)


@pytest.mark.parametrize("depth", [1, 10, 100])
def test_the_memory_of_the_forward_pass_grows_with_depth_and_no_grad_saves_none(depth):
    def deep(x: Tensor) -> Tensor:
        for _ in range(depth):
            x = torch.tanh(x)
        return x

    x = torch.linspace(0.1, 1.0, 1000, requires_grad=True)
    assert len(chapter.saved_tensors(deep, x)) == depth
    with torch.no_grad():
        assert chapter.saved_tensors(deep, x) == []


# Derivation


def test_every_equation_of_the_example():
    n = 6
    x = torch.linspace(-3, 3, n, dtype=torch.float64, requires_grad=True)
    tensors = chapter.graph_example(x)
    tensors["y"].retain_grad()
    tensors["z"].retain_grad()
    tensors["t"].backward()
    assert torch.allclose(tensors["z"].grad, torch.full((n,), 1 / n, dtype=x.dtype))  # (2)
    assert torch.allclose(tensors["y"].grad, 2 * tensors["y"].detach() / n)  # (3)
    assert torch.allclose(x.grad, 2 * (x.detach() + 2) / n)  # (4)


def test_backward_with_v_is_the_vector_jacobian_product():
    v = torch.tensor([1.0, 0.1, 20.0])
    for seed in range(3):  # whatever x is
        x = torch.randn(3, generator=torch.Generator().manual_seed(seed), requires_grad=True)
        (2 * x).backward(v)
        assert torch.equal(x.grad, torch.tensor([2.0, 0.2, 40.0]))
        assert torch.equal(chapter.vjp(lambda x: 2 * x, x, v), x.grad)


def test_the_product_agrees_with_the_full_jacobian():
    gen = torch.Generator().manual_seed(0)
    W = torch.randn(4, 3, generator=gen, dtype=torch.float64)
    x = torch.randn(3, generator=gen, dtype=torch.float64)
    v = torch.randn(4, generator=gen, dtype=torch.float64)

    def f(x: Tensor) -> Tensor:
        return torch.tanh(W @ x)

    jacobian = torch.autograd.functional.jacobian(f, x)
    assert torch.allclose(chapter.vjp(f, x, v), v @ jacobian)
    # The same as the gradient of the scalar sum of v_a y_a.
    assert torch.allclose(chapter.vjp(f, x, v), chapter.autograd_gradient(lambda x: v @ f(x), x))


def test_the_chain_of_jacobians_from_the_left_is_the_gradient():
    gen = torch.Generator().manual_seed(1)
    layers = [torch.randn(5, 5, generator=gen, dtype=torch.float64) for _ in range(3)]
    x = torch.randn(5, generator=gen, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        for W in layers:
            x = torch.tanh(W @ x)
        return (x**2).sum()

    jacobians, h = [], x
    for W in layers:
        jacobians.append(torch.autograd.functional.jacobian(lambda h, W=W: torch.tanh(W @ h), h))
        h = torch.tanh(W @ h)
    row = 2 * h
    for jacobian in reversed(jacobians):
        row = row @ jacobian
    assert torch.allclose(row, chapter.autograd_gradient(loss, x))


def test_the_table_of_rules():
    gen = torch.Generator().manual_seed(2)
    x, b, v = torch.randn(3, 4, generator=gen, dtype=torch.float64)
    X = torch.randn(6, 4, generator=gen, dtype=torch.float64)
    u = torch.randn(6, generator=gen, dtype=torch.float64)
    one = torch.tensor(0.7, dtype=torch.float64)
    assert torch.allclose(chapter.vjp(lambda x: x + 3, x, v), v)
    assert torch.allclose(chapter.vjp(lambda x: x * b, x, v), v * b)
    assert torch.allclose(chapter.vjp(torch.tanh, x, v), v * (1 - torch.tanh(x) ** 2))
    assert torch.allclose(chapter.vjp(torch.mean, x, one), (one / 4).expand(4))
    assert torch.allclose(chapter.vjp(lambda w: X @ w, x, u), X.T @ u)


def test_two_backward_passes_add_up():
    w = leaf(1.0)
    (3 * w).backward()
    assert w.grad.item() == 3
    (3 * w).backward()
    assert w.grad.item() == 6


@pytest.mark.parametrize("lr", [0.001, 0.01, 3 / 28, 0.3, 0.42])
def test_the_closed_form_is_the_run_without_clearing(lr):
    path = chapter.fit_slope(XS, 2 * XS, lr, steps=200, clear=False)
    formula = [chapter.forgotten_slope(k, 1.0, 2.0, lr, CURVATURE) for k in range(201)]
    # 200 steps in float64; the swing is below 8, so 1e-9 is far above the rounding.
    assert path == pytest.approx(formula, abs=1e-9)


@pytest.mark.parametrize("lr", [0.01, 3 / 28])
def test_the_recurrence_without_clearing(lr):
    error = np.array(chapter.fit_slope(XS, 2 * XS, lr, steps=50, clear=False)) - 2
    assert error[1] == pytest.approx((1 - lr * CURVATURE) * error[0])
    expected = (2 - lr * CURVATURE) * error[1:-1] - error[:-2]
    assert error[2:] == pytest.approx(expected, abs=1e-12)


def test_the_error_with_clearing_shrinks_by_a_constant_factor():
    error = np.array(chapter.fit_slope(XS, 2 * XS, 0.01, steps=50, clear=True)) - 2
    assert error[1:] == pytest.approx((1 - 0.01 * CURVATURE) * error[:-1])


def test_the_predicted_period_and_amplitude():
    def period(lr: float) -> float:
        return 2 * math.pi / math.acos(1 - lr * CURVATURE / 2)

    assert period(3 / 28) == pytest.approx(6)
    assert period(0.01) == pytest.approx(20.49, abs=0.005)  # the two digits of the page
    lr = 0.01
    path = chapter.fit_slope(XS, 2 * XS, lr, steps=5000, clear=False)
    swing = max(abs(w - 2) for w in path)
    # 5000 steps at an irrational angle pass the crest closely.
    assert swing == pytest.approx(1 / math.sqrt(1 - lr * CURVATURE / 4), rel=1e-4)
    assert chapter.crossing_period(path, 2.0) == pytest.approx(period(lr), rel=1e-5)


def test_forgetting_to_clear_is_momentum_one():
    w = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.01, momentum=1.0)
    path = [w.item()]
    for _ in range(100):
        optimizer.zero_grad()
        ((w * XS - 2 * XS) ** 2).mean().backward()
        optimizer.step()
        path.append(w.item())
    assert path == pytest.approx(chapter.fit_slope(XS, 2 * XS, 0.01, 100, clear=False), abs=1e-9)


# The engine


@pytest.mark.parametrize(("a", "b"), [(0.5, 2.0), (-1.3, 0.7), (0.0, 0.0), (2.0, -3.0)])
def test_the_engine_equals_torch(a, b):
    x, y = chapter.Value(a), chapter.Value(b)
    root = (x * y + x * x).tanh()
    root.backward()
    s, t = leaf(a), leaf(b)
    expected = (s * t + s * s).tanh()
    expected.backward()
    assert root.data == pytest.approx(expected.item(), rel=1e-12)
    assert x.grad == pytest.approx(s.grad.item(), rel=1e-12)
    assert y.grad == pytest.approx(t.grad.item(), rel=1e-12)


def test_the_engine_has_thirty_odd_lines():
    source = inspect.getsource(chapter.Value) + inspect.getsource(chapter.topological_order)
    docs = sum(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for node in ast.walk(ast.parse(source))
    )
    lines = [line for line in source.splitlines() if line.strip() and not line.startswith("#")]
    assert 30 <= len(lines) - docs <= 36


def test_the_order_puts_inputs_first_and_each_node_once():
    a = chapter.Value(0.5)
    root = (a * a + a).tanh()
    order = chapter.topological_order(root)
    assert len(order) == len(set(order)) == 4
    for i, node in enumerate(order):
        assert all(source in order[:i] for source, _ in node.inputs)


def test_a_billion_paths_need_sixty_multiplications():
    a = chapter.Value(1.0)
    y = a
    for _ in range(30):
        y = y + y
    y.backward()
    assert a.grad == 2**30 == 1073741824
    assert sum(len(node.inputs) for node in chapter.topological_order(y)) == 60


def test_a_depth_first_walk_that_does_not_wait_is_wrong():
    # Passing a gradient on before all of it has arrived: what the order is for.
    a = chapter.Value(3.0)
    b = a * a
    root = b * b
    root.grad, seen = 1.0, set()

    def eager(node: chapter.Value) -> None:
        for source, slope in node.inputs:
            source.grad += node.grad * slope
            if source not in seen:
                seen.add(source)
                eager(source)

    eager(root)
    hasty = a.grad
    a.grad = b.grad = root.grad = 0.0
    root.backward()
    assert a.grad == 4 * 3.0**3
    assert hasty != a.grad


def test_the_engine_accumulates_on_leaves_like_torch():
    w, v = chapter.Value(3.0), leaf(3.0)
    loss, expected = w * w * w, v * v * v
    for _ in range(2):
        loss.backward()
        expected.backward(retain_graph=True)
    assert w.grad == v.grad.item() == 54


def test_without_the_reset_old_gradients_are_passed_on_again():
    w = chapter.Value(3.0)
    loss = w * w
    loss.backward()
    loss.backward()
    assert w.grad == 12
    w.grad = loss.grad = 0.0
    for _ in range(2):
        loss.grad += 1.0
        for source, slope in loss.inputs:
            source.grad += loss.grad * slope
    assert w.grad == 18


def test_the_gradient_in_the_figure_is_the_sum_over_three_edges():
    a, b = chapter.Value(0.5), chapter.Value(2.0)
    (a * b + a * a).tanh().backward()
    slope = 1 - math.tanh(1.25) ** 2
    assert a.grad == pytest.approx(slope * 2 + slope * 0.5 + slope * 0.5)
    assert f"{slope:.3f} {a.grad:.3f} {b.grad:.3f}" == "0.280 0.841 0.140"
    assert f"{slope:.4f} {0.2804 * (2 + 0.5 + 0.5):.3f}" == "0.2804 0.841"


# Updating, detaching, accumulating


def test_sgd_step_is_torch_sgd():
    gen = torch.Generator().manual_seed(0)
    target = torch.randn(4, generator=gen, dtype=torch.float64)
    ours = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    theirs = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([theirs], lr=0.1)
    for _ in range(10):
        ((ours - target) ** 2).sum().backward()
        chapter.sgd_step([ours], lr=0.1)
        ((theirs - target) ** 2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.allclose(ours, theirs, rtol=1e-12)
        assert ours.grad is None and theirs.grad is None
    assert ours.is_leaf and ours.requires_grad


def test_names_ending_in_an_underscore_change_their_caller():
    t = torch.ones(3)
    address = t.data_ptr()
    assert t.add_(1) is t and t.zero_() is t and t.data_ptr() == address
    assert t.add(1) is not t


def test_detach_makes_a_constant_of_u():
    x = torch.tensor([1.0, -2.0, 3.0])
    whole, cut = chapter.detach_demo(x)
    assert torch.allclose(whole, 3 * x**2)
    assert torch.allclose(cut, x**2)


def test_detach_shares_the_memory():
    w = torch.ones(3, requires_grad=True)
    assert w.detach().data_ptr() == w.data_ptr() and not w.detach().requires_grad


def test_no_grad_results_require_no_grad():
    w = leaf(3.0)
    with torch.no_grad():
        result = 2 * w
    assert not result.requires_grad and result.grad_fn is None
    assert (2 * w).requires_grad


def test_inference_tensors_cannot_be_saved_for_backward():
    with torch.inference_mode():
        features = torch.ones(3)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        (features * torch.ones(3, requires_grad=True)).sum().backward()
    w = torch.ones(3, requires_grad=True)
    (features + w).sum().backward()  # addition saves nothing, so this is allowed
    assert w.grad.tolist() == [1, 1, 1]


@pytest.mark.parametrize("batch", [1, 2, 4, 7, 15])
def test_weighted_accumulation_is_the_gradient_of_the_whole(batch):
    x, y = chapter.points()
    exact = -2 * (x.double() * y.double()).mean().item()
    # float32 sums of 15 numbers of size 30.
    assert chapter.accumulated_gradient(x, y, batch, weighted=True) == pytest.approx(
        exact, rel=1e-5
    )


def test_equal_weights_are_wrong_when_the_last_batch_is_short():
    x, y = chapter.points()
    whole = chapter.accumulated_gradient(x, y, 15, weighted=True)
    assert abs(chapter.accumulated_gradient(x, y, 4, weighted=False) - whole) > 0.4
    # 15 = 3 * 5: with equal batches both are right.
    assert chapter.accumulated_gradient(x, y, 5, weighted=False) == pytest.approx(whole, rel=1e-5)


# Comparison


def test_clearing_converges_and_forgetting_keeps_the_whole_error(measured):
    values = measured(chapter.experiment_clearing)
    # (1 - 0.05 c)^400 with c = 2 mean(x^2) of 20 normal numbers; c > 0.7 gives below 1e-6.
    assert (values["left_cleared"] < 1e-6).all()
    # The amplitude is 1 / sqrt(1 - lr c / 4), a little above 1.
    assert (values["left_forgotten"] > 0.99).all()
    assert (values["left_forgotten"] < 1.1).all()


def test_the_period_is_predicted_to_one_in_ten_thousand(measured):
    values = measured(chapter.experiment_clearing)
    # Interpolating a crossing is good to a hundredth of a step; there are 13 to 29 steps a period.
    assert values["period_gap"].max() < 1e-4
    assert values["period_measured"] == pytest.approx(values["period_predicted"], rel=1e-4)
    assert np.ptp(values["period_predicted"]) > 5  # the prediction is tested on many periods


def test_autograd_is_far_more_precise_than_the_best_difference(measured):
    values = measured(chapter.experiment_difference)
    # A few roundings of 2^-24 = 6e-8 each.
    assert (values["autograd"] < 1e-6).all()
    # Predicted ratio u^(2/3) / u = 256, of which a quarter is asked for in each seed.
    assert (values["difference_best"] > 64 * values["autograd"]).all()
    assert (values["difference_best"] < 1e-3).all()


def test_the_best_step_is_where_the_derivation_says(measured):
    values = measured(chapter.experiment_difference)
    unit = torch.finfo(torch.float32).eps / 2
    assert unit == 2.0**-24 == pytest.approx(6e-8, rel=0.01)
    assert unit ** (1 / 3) == pytest.approx(2.0**-8) == pytest.approx(0.004, rel=0.03)
    assert unit ** (2 / 3) == pytest.approx(2.0**-16) == pytest.approx(1.5e-5, rel=0.03)
    assert (values["best_step"] >= 2.0**-10).all()
    assert (values["best_step"] <= 2.0**-6).all()
    # The constants were dropped: the order of magnitude is what is predicted.
    assert 0.1 < values["difference_best"].mean() / unit ** (2 / 3) < 10


def test_a_smaller_step_is_worse(measured):
    values = measured(chapter.experiment_difference)
    assert (values["difference_small"] > 500 * values["difference_best"]).all()


def test_the_two_slopes_of_the_error():
    loss, w = chapter.tanh_problem(0, torch.float64)
    reference = chapter.autograd_gradient(loss, w)

    def error(h: float) -> float:
        return chapter.relative_error(chapter.numerical_gradient(loss, w, h), reference)

    # Truncation: h^2, with a correction of order h^2 left at h = 2^-6.
    assert math.log2(error(2.0**-6) / error(2.0**-10)) / 4 == pytest.approx(2, abs=0.05)
    # Rounding: 1/h, a random quantity, hence over 2^12 and with room.
    assert math.log2(error(2.0**-22) / error(2.0**-34)) / 12 == pytest.approx(-1, abs=0.15)


def test_a_step_below_the_spacing_of_floats_gives_a_difference_of_zero():
    loss, w = chapter.tanh_problem(0, torch.float32)
    assert torch.equal(chapter.numerical_gradient(loss, w, 2.0**-33), torch.zeros_like(w))


def test_differences_cost_two_evaluations_per_weight_and_autograd_one():
    loss, w = chapter.tanh_problem(0, torch.float32)
    calls = []

    def counted(v: Tensor) -> Tensor:
        calls.append(v)
        return loss(v)

    chapter.numerical_gradient(counted, w, 0.01)
    assert len(calls) == 2 * len(w) == 40
    calls.clear()
    chapter.autograd_gradient(counted, w)
    assert len(calls) == 1


def test_gradcheck_wants_float64():
    w = torch.linspace(0.1, 1.0, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(torch.tanh, w)
    default = inspect.signature(torch.autograd.gradcheck).parameters["eps"].default
    assert default == 1e-6
    single = w.detach().float().requires_grad_()
    with pytest.warns(UserWarning, match="not a double precision floating point"):
        assert not torch.autograd.gradcheck(torch.tanh, single, raise_exception=False)


# Limits


def test_the_gradient_through_rounding_is_zero_and_training_does_not_move(measured):
    values = measured(chapter.experiment_rounding)
    assert (values["autograd"] == values["start"]).all()
    assert (values["start"] > 1).all()


def test_a_coarse_difference_helps_where_autograd_does_not(measured):
    values = measured(chapter.experiment_rounding)
    # Left over are single samples next to a step: each of 30 costs 1/30.
    assert (values["difference"] < 0.2 * values["start"]).all()
    assert (values["smooth"] < 0.2 * values["start"]).all()
    # The right cure is at least as good as the crude one, up to two samples.
    assert (values["smooth"] <= values["difference"] + 2 / 30 + 1e-6).all()


def test_the_derivative_of_round_is_zero_everywhere():
    x = torch.linspace(-3, 3, 101, requires_grad=True)
    torch.round(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_the_staircase_is_flat_between_jumps_and_has_its_minimum_at_two():
    x = torch.tensor([1.0, 2.0, 3.0])
    losses = [chapter.rounded_loss(torch.tensor([w]), x, 2 * x).item() for w in (1.9, 2.0, 2.1)]
    assert losses == [0, 0, 0]
    grid = torch.linspace(0.6, 3.4, 561)
    values = {round(chapter.rounded_loss(w, x, 2 * x).item(), 4) for w in grid}
    assert 5 < len(values) < 20
    w = torch.tensor([1.2])
    gradient = chapter.autograd_gradient(lambda v: chapter.rounded_loss(v, x, 2 * x), w)
    assert gradient.item() == 0
    assert chapter.autograd_gradient(lambda v: chapter.smooth_loss(v, x, 2 * x), w).item() < -5


def test_accuracy_has_no_gradient_at_all():
    logits = torch.tensor([[2.0, 1.0], [0.5, 0.7]], requires_grad=True)
    accuracy = (logits.argmax(dim=1) == torch.tensor([0, 0])).float().mean()
    assert accuracy.item() == 0.5 and not accuracy.requires_grad


def test_two_programs_of_one_function_have_two_derivatives_at_zero():
    def f(x: Tensor) -> Tensor:
        return torch.relu(x) - torch.relu(-x)

    for value, expected in ((-1.0, 1.0), (0.0, 0.0), (1.0, 1.0)):
        x = leaf(value)
        assert f(x).item() == value
        f(x).backward()
        assert x.grad.item() == expected


def test_where_does_not_stop_nan_in_the_backward_pass():
    x = torch.tensor([0.0, 4.0], requires_grad=True)
    result = torch.where(x > 0, torch.sqrt(x), 0.0)
    assert result.tolist() == [0, 2]
    result.sum().backward()
    assert math.isnan(x.grad[0]) and x.grad[1] == 0.25

    x = torch.tensor([0.0, 4.0], requires_grad=True)
    torch.where(x > 0, torch.sqrt(torch.where(x > 0, x, 1.0)), 0.0).sum().backward()
    assert x.grad.tolist() == [0, 0.25]


def test_a_zero_training_gradient_says_nothing_about_other_points():
    x, y = (values.double() for values in chapter.points())
    w = ((x[:10] @ y[:10]) / (x[:10] @ x[:10])).reshape(1)

    def gradient(part: slice) -> float:
        return chapter.autograd_gradient(
            lambda v: chapter.smooth_loss(v, x[part], y[part]), w
        ).item()

    assert abs(gradient(slice(0, 10))) < 1e-12
    assert abs(gradient(slice(10, 15))) > 3


# E12


def test_e12_tensors_can_be_changed_and_only_recording_leaves_refuse():
    t = torch.ones(3)
    t += 1
    t[0] = 5
    assert t.tolist() == [5, 2, 2]
    w = torch.ones(3, requires_grad=True)
    result = w * 2
    result += 1  # not a leaf: allowed while recording
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used"):
        w += 1
    with torch.no_grad():
        w += 1
    assert w.tolist() == [2, 2, 2] and w.is_leaf


def test_e12_data_gives_0_instead_of_6_and_no_grad_and_detach_raise():
    @torch.no_grad()
    def set_to_zero(w: Tensor) -> None:
        w.zero_()

    assert chapter.overwritten_gradient(lambda w: None).item() == 6
    assert chapter.overwritten_gradient(lambda w: w.data.zero_()).item() == 0
    for overwrite in (set_to_zero, lambda w: w.detach().zero_()):
        with pytest.raises(RuntimeError, match="is at version 1; expected version 0"):
            chapter.overwritten_gradient(overwrite)


def test_e12_the_version_counter_sees_no_grad_and_detach_but_not_data():
    w = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        w.add_(1)
    assert w._version == 1
    w.detach().add_(1)
    assert w._version == 2
    w.data.add_(1)
    assert w._version == 2 and w.tolist() == [4, 4, 4]


def test_e12_dividing_by_the_batch_size_turns_a_sum_into_a_mean():
    w = torch.tensor([1.0], dtype=torch.float64)
    total = chapter.autograd_gradient(lambda w: ((w * XS - 2 * XS) ** 2).sum(), w)
    mean = chapter.autograd_gradient(lambda w: ((w * XS - 2 * XS) ** 2).mean(), w)
    assert torch.allclose(total / len(XS), mean)


def test_e12_zero_grad_sets_none_so_zeroing_again_fails():
    w = leaf(3.0)
    (w**2).backward()
    torch.optim.SGD([w], lr=0.1).zero_grad()
    assert w.grad is None
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'zero_'"):
        w.grad.zero_()
    with pytest.raises(AttributeError):
        w.grad.data.zero_()


# E23


def test_e23_the_graph_is_complete_before_backward():
    t = chapter.graph_example(torch.ones(2, 2, requires_grad=True))["t"]
    assert len(chapter.walk_graph(t)) == 4


def test_e23_results_keep_no_grad_and_warn():
    tensors = chapter.graph_example(torch.ones(2, 2, requires_grad=True))
    tensors["t"].backward()
    with pytest.warns(UserWarning, match="not a leaf Tensor is being accessed"):
        assert tensors["z"].grad is None
    with pytest.warns(UserWarning, match="not a leaf Tensor is being accessed"):
        assert tensors["y"].grad is None


def test_e23_retain_grad_and_autograd_grad_give_any_node():
    quarter = torch.full((2, 2), 0.25)
    tensors = chapter.graph_example(torch.ones(2, 2, requires_grad=True))
    tensors["z"].retain_grad()
    tensors["t"].backward()
    assert torch.equal(tensors["z"].grad, quarter)
    tensors = chapter.graph_example(torch.ones(2, 2, requires_grad=True))
    (asked,) = torch.autograd.grad(tensors["t"], tensors["z"])
    assert torch.equal(asked, quarter) and tensors["x"].grad is None


def test_e23_expand_as_is_a_method_a_view_and_not_needed():
    with pytest.raises(NameError, match="name 'expand_as' is not defined"):
        exec("expand_as(x)", {"x": torch.ones(3)})
    a, x = torch.tensor([2.0]), torch.arange(3.0)
    view = a.expand_as(x)
    assert view.stride() == (0,) and view.data_ptr() == a.data_ptr()
    assert torch.equal(view * x, a * x)


# E34


def test_e34_the_names_of_the_notes_fail():
    with pytest.raises(NameError, match="name 'no_grad' is not defined"):
        exec("with no_grad():\n    pass", {})
    with pytest.raises(TypeError, match="unexpected keyword argument 'require_grad'"):
        torch.tensor([1.0], require_grad=True)
    assert torch.tensor([1.0], requires_grad=True).requires_grad


def test_e34_only_float_and_complex_require_grad():
    for dtype in (torch.int64, torch.int32, torch.bool):
        with pytest.raises(RuntimeError, match="Only Tensors of floating point and complex"):
            torch.ones(3, dtype=dtype, requires_grad=True)
    for dtype in (torch.float32, torch.float64, torch.complex64):
        assert torch.ones(3, dtype=dtype, requires_grad=True).requires_grad


# E39


def test_e39_variable_returns_a_tensor():
    wrapped = torch.autograd.Variable(torch.ones(2), requires_grad=True)
    assert type(wrapped) is Tensor and wrapped.requires_grad
    with pytest.raises(NameError, match="name 'Variable' is not defined"):
        exec("Variable(x)", {"x": torch.ones(3)})


def test_e39_volatile_only_warns_and_the_graph_is_built():
    layer = torch.nn.Linear(3, 1)
    with pytest.warns(UserWarning, match="volatile was removed and now has no effect"):
        inputs = torch.autograd.Variable(torch.ones(2, 3), volatile=True)
    assert layer(inputs).requires_grad
    with torch.no_grad():
        assert not layer(inputs).requires_grad


# Clinic


def test_rebinding_makes_a_result_that_has_no_gradient():
    w = leaf(3.0)
    parameter = w
    (w**2).backward()
    w = w - 0.1 * w.grad
    assert not w.is_leaf and parameter.item() == 3  # the parameter itself has not moved
    (w**2).backward()
    with (
        pytest.warns(UserWarning, match="not a leaf"),
        pytest.raises(TypeError, match="'float' and 'NoneType'"),
    ):
        w - 0.1 * w.grad


def test_a_second_backward_raises_and_retain_graph_allows_it():
    w = leaf(3.0)
    loss = w**2
    loss.backward(retain_graph=True)
    loss.backward()
    assert w.grad.item() == 12
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        loss.backward()


def test_backward_of_a_vector_needs_v():
    y = 2 * torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar"):
        y.backward()


@pytest.mark.parametrize(
    "cut",
    [
        lambda w: torch.tensor((w**2).item()),
        lambda w: (w**2).detach(),
        lambda w: (w**2).long(),
    ],
)
def test_what_cuts_the_graph(cut):
    with pytest.raises(RuntimeError, match="does not require grad and does not have a grad_fn"):
        cut(leaf(3.0)).backward()


def test_numpy_wants_detach():
    w = torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="Can't call numpy\\(\\) on Tensor that requires grad"):
        w.numpy()
    assert w.detach().numpy().tolist() == [1, 1, 1]


def test_adding_up_loss_tensors_keeps_every_graph():
    w = leaf(1.0)
    total, sizes = 0.0, []
    for _ in range(20):
        loss = (2 * w - 1) ** 2
        total = total + loss
        sizes.append(len(chapter.walk_graph(total)))
    # Each round adds PowBackward0, SubBackward0, MulBackward0 and AddBackward0.
    assert set(np.diff(sizes)) == {4}
    assert len(chapter.walk_graph(loss)) == 4


# Exercises


def test_exercise_3_one_product_per_output_and_one_forward_product_per_input():
    def f(x: Tensor) -> Tensor:
        return torch.stack([x[0] * x[1], x[0] + x[1], x[0] ** 2])

    x = torch.tensor([3.0, 5.0])
    jacobian = torch.autograd.functional.jacobian(f, x)
    rows = [chapter.vjp(f, x, v) for v in torch.eye(3)]
    columns = [torch.func.jvp(f, (x,), (v,))[1] for v in torch.eye(2)]
    assert torch.equal(torch.stack(rows), jacobian)
    assert torch.equal(torch.stack(columns, dim=1), jacobian)


def test_exercise_4_the_loop_that_forgets_survives_a_rate_at_which_the_right_one_diverges():
    cleared = chapter.fit_slope(XS, 2 * XS, lr=0.3, steps=50, clear=True)
    forgotten = chapter.fit_slope(XS, 2 * XS, lr=0.3, steps=50, clear=False)
    assert abs(cleared[-1] - 2) == pytest.approx(1.8**50)
    assert max(abs(w - 2) for w in forgotten) <= 1 / math.sqrt(0.3) + 1e-9
    assert 1 / math.sqrt(0.3) == pytest.approx(1.826, abs=5e-4)
    # Beyond lr * c = 4 the swing grows as well.
    beyond = chapter.fit_slope(XS, 2 * XS, lr=0.45, steps=50, clear=False)
    assert abs(beyond[-1] - 2) > 1e6
