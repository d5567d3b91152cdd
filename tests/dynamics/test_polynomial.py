"""Polynomial terms of a latent field: nearly exact where the equation has them, absent where it does not."""

from __future__ import annotations

import itertools
import math
import pickle

import pytest
import torch

from romvae.dynamics.ode import OdeDynamics
from romvae.dynamics.polynomial import AT_ONCE, MOST, REACH, SQUARES, PolynomialTerms, _rates
from romvae.dynamics.regression import ROWS, Regression, held_out, some_of

DT = 0.02


def _lorenz(n: int, times: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Lorenz (1963) below the onset of chaos; its driving is the parameter."""
    g = torch.Generator().manual_seed(seed)
    c = 2 * torch.rand(n, 1, generator=g, dtype=torch.float64) - 1
    r = 15 + 5 * c[:, 0]

    def rate(z):
        x, y, w = z.unbind(-1)
        return torch.stack([10 * (y - x), x * (r - w) - y, x * y - 8 / 3 * w], -1)

    z = torch.randn(n, 3, generator=g, dtype=torch.float64) * 5 + torch.tensor([0.0, 0.0, 14.0], dtype=torch.float64)
    path, h = [z], DT / 8
    for _ in range(times - 1):
        for _ in range(8):
            k1 = rate(z)
            k2 = rate(z + h / 2 * k1)
            k3 = rate(z + h / 2 * k2)
            z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + rate(z + h * k3))
        path.append(z)
    return torch.stack(path, 1), c


def _silent(model: OdeDynamics) -> OdeDynamics:
    """The network says nothing yet."""
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
    return model


def _error(model: OdeDynamics, z: torch.Tensor, c: torch.Tensor) -> float:
    with torch.no_grad():
        path = model.rollout(z[:, 0], c, DT, z.shape[1] - 1)[:, 0].transpose(0, 1)
    return float((path - z).square().mean().sqrt() / z.square().mean().sqrt())


def test_a_quadratic_equation_with_a_parameter_in_it_is_known_before_any_training():
    z, c = _lorenz(60, 61)
    new, beside = _lorenz(20, 61, seed=1)
    model = OdeDynamics(3, 1, DT, 1, members=2, hidden=8, depth=1).double()
    model.start_from_linear(z, c)
    assert float(model.polynomial.used) == 2.0
    _silent(model)
    # The difference quotient is of sixth order in a step of a tenth of the fastest time.
    assert _error(model, new, beside) < 5e-3
    again = pickle.loads(pickle.dumps(OdeDynamics(3, 1, DT, 1, members=2, hidden=8, depth=1).double()))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.rollout(new[:, 0], beside, DT, 5), model.rollout(new[:, 0], beside, DT, 5))
    for each in (model, again):  # beside them, the network alone
        trained = {name for name, p in each.named_parameters() if p.requires_grad}
        assert trained == {name for name, _ in each.named_parameters() if name.startswith("network.")}
    plain = OdeDynamics(3, 1, DT, 1, members=2, hidden=8, depth=1).double()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "polynomial" not in name})
    assert not bool(plain.polynomial.used)  # a model of an earlier version has none
    assert _error(plain, new, beside) > 50 * _error(model, new, beside)


def test_steps_that_cannot_follow_the_field_leave_it_out():
    z, c = _lorenz(60, 121)
    model = OdeDynamics(3, 1, DT, 60, members=2, hidden=8, depth=1).double()
    model.start_from_linear(z, c)
    assert float(model.polynomial.used) == 0.0
    assert not bool(model.polynomial.weight.any())


@pytest.mark.parametrize("few", [False, True])
def test_a_linear_equation_gets_no_quadratic_terms(few):
    t = DT * torch.arange(41, dtype=torch.float64)
    phases = torch.linspace(0, 2 * math.pi, 8 if few else 40, dtype=torch.float64)[:, None]
    z = torch.stack([torch.cos(3 * t + phases), torch.sin(3 * t + phases)], -1)
    c = torch.zeros(len(z), 0, dtype=torch.float64)
    model = OdeDynamics(2, 0, DT, 1, members=2, hidden=8, depth=1).double()
    model.start_from_linear(z, c)
    assert float(model.polynomial.used) == 0.0
    model.rollout(z[:, 0], c, DT, 4).square().sum().backward()
    assert bool(model.linear.grad.any())  # without them, the linear field is trained


def test_a_polynomial_of_any_degree_is_found_in_codes_that_bend_the_field():
    """The same flow in other coordinates, which turn a quadratic field into one of higher degree."""
    z, c = _lorenz(80, 61)
    z = z / z.flatten(0, 1).std(0)
    bent = torch.cat([z[..., :2], z[..., 2:] + 0.1 * z[..., :1] ** 2], -1)
    model = OdeDynamics(3, 1, DT, 1, members=1, hidden=8, depth=1).double()
    model.start_from_linear(bent[20:], c[20:])
    assert float(model.polynomial.used) > 2
    assert _error(model, bent[:20], c[:20]) < 2e-2


def test_monomials_are_each_there_once():
    terms = PolynomialTerms(3, 2, members=1).double()
    z, c = torch.rand(2, 3, dtype=torch.float64), torch.rand(2, 2, dtype=torch.float64)
    for degree in range(2, terms.degree + 1):
        exponents = [e for e in itertools.product(range(degree + 1), repeat=3) if 0 < sum(e) <= degree]
        values = torch.stack([z.pow(torch.tensor(e)).prod(-1) for e in exponents], -1)
        high = torch.tensor([sum(e) > 1 for e in exponents])
        every = torch.cat([values[:, high], values * c[:, :1], values * c[:, 1:]], -1)
        found = terms.features(z, c, degree)
        torch.testing.assert_close(found.sort(-1).values, every.sort(-1).values)


def test_far_away_products_stop_growing():
    terms = PolynomialTerms(3, 2, members=2)
    count = terms.weight.shape[1]
    terms.start_at(torch.randn(count, 3, generator=torch.Generator().manual_seed(0)))
    assert float(terms.used) == terms.degree
    z, c = torch.randn(2, 5, 3), torch.randn(2, 5, 2)
    edge = terms(REACH * z.sign(), c)
    torch.testing.assert_close(terms(1e20 * z.sign(), c), edge)
    assert not torch.allclose(terms(REACH / 2 * z.sign(), c), edge)


def test_there_are_never_too_many_products():
    sizes = {latent: PolynomialTerms(latent, 1, members=1) for latent in (3, 8, 20, 45, 60)}
    assert [terms.degree for terms in sizes.values()] == [5, 4, 2, 2, 0]
    assert all(terms.weight.shape[1] <= (SQUARES if terms.degree == 2 else MOST) for terms in sizes.values())
    assert sizes[60].weight.numel() == 0
    older = sizes[45].state_dict() | {"weight": torch.zeros(1, 0, 45)}
    sizes[45].load_state_dict(older)
    assert not sizes[45].weight.any()


def test_a_regression_in_parts_is_that_of_all_rows():
    g = torch.Generator().manual_seed(0)
    features = torch.randn(90, 4, generator=g, dtype=torch.float64)
    features[:, 0] = 1
    weights = torch.randn(4, 2, generator=g, dtype=torch.float64)
    rows = [(part, part @ weights) for part in features.split(31)]
    torch.testing.assert_close(Regression.of(rows).weights(1e-12), weights)
    used = torch.tensor([True, True, False, True])
    expected = torch.linalg.lstsq(features[:, used], features @ weights).solution
    found = Regression.of(rows).weights(1e-13, used)
    torch.testing.assert_close(found[used], expected, rtol=1e-6, atol=1e-8)
    assert not bool(found[2].any())


def test_a_fit_that_is_moved_is_that_of_the_sample_to_first_order():
    g = torch.Generator().manual_seed(0)
    features = torch.randn(120, 5, generator=g, dtype=torch.float64)
    features[:, 0] = 1
    targets = features @ torch.randn(5, 2, generator=g, dtype=torch.float64)
    targets = targets + 0.3 * torch.randn(120, 2, generator=g, dtype=torch.float64)
    row, used = torch.arange(120) // 3, torch.tensor([True, True, False, True, True])
    often = torch.randn(40, generator=g, dtype=torch.float64)
    fit, off = Regression.of([(features, targets)]), []
    blocks = [tuple(part.split(50)) for part in (features, targets, row)]
    for size in (0.1, 0.05):
        times = 1 + size * often
        (found,) = fit.moved(zip(*blocks, strict=True), 1e-9, used, [times])
        root = times[row][:, None].sqrt()
        exact = Regression.of([(features * root, targets * root)]).weights(1e-9, used)
        off.append(float((found - exact).norm()))
        assert off[-1] < 0.3 * float((exact - fit.weights(1e-9, used)).norm())
    assert off[0] / off[1] == pytest.approx(4, rel=0.3)


def test_members_disagree_as_much_as_they_are_wrong():
    """Of few and noisy codes; those of the fit of all trajectories would not disagree at all."""
    off, spread = [], []
    for seed in range(4):
        z, c = _lorenz(40, 31, seed=10 + seed)
        noise = 0.02 * torch.randn(z.shape, generator=torch.Generator().manual_seed(seed), dtype=z.dtype)
        model = OdeDynamics(3, 1, DT, 1, members=8, hidden=8, depth=1, seed=seed).double()
        model.start_from_linear(z + noise, c)
        assert float(model.polynomial.used) == 2.0
        new, beside = _lorenz(20, 31, seed=seed)
        path = model.known().rollout(new[:, 0], beside, DT, 30).detach()
        off.append((path.mean(1).transpose(0, 1) - new).square().mean())
        spread.append(path.var(1).mean())
    ratio = (sum(spread) / sum(off)) ** 0.5
    assert 0.5 < float(ratio) < 2


def test_products_grow_as_far_as_the_training_codes_go():
    z, _ = _lorenz(60, 61)
    far = z.clone()
    far[0] = far[0] * 8  # one trajectory far outside
    model = OdeDynamics(3, 1, DT, 1, members=1, hidden=8, depth=1).double()
    model.polynomial.go_as_far_as((far - far.flatten(0, 1).mean(0)) / far.flatten(0, 1).std(0))
    assert model.polynomial.edge > REACH
    again = OdeDynamics(3, 1, DT, 1, members=1, hidden=8, depth=1).double()
    again.load_state_dict(model.state_dict())
    assert again.polynomial.edge == model.polynomial.edge
    older = {name: value for name, value in model.state_dict().items() if "reach" not in name}
    again.load_state_dict(older)
    assert again.polynomial.edge == REACH


def test_trajectories_with_the_same_parameters_are_judged_together():
    c = torch.arange(12.0).repeat(3)[:, None]
    held = held_out(c, 36)
    assert 0 < int(held.sum()) < 36
    assert torch.equal(held[:12], held[12:24])
    assert held_out(c[:9], 9) is None


def test_moved_copies_of_few_trajectories_are_not_all_that_is_looked_at():
    """Sixteen copies, one after the other: every n-th row would be the same trajectory again and again."""
    rows = torch.arange(16 * 100)
    assert len(torch.unique(some_of(rows, 100) % 100)) > 50
    z, c = torch.randn(400, 300, 2, dtype=torch.float64), torch.randn(400, 0, dtype=torch.float64)
    z[:, :, 0] = torch.arange(400, dtype=torch.float64)[:, None] / 100
    features = torch.cat([f for f, _, _ in _rates(PolynomialTerms(2, 0, 1).double(), z, c, 1)])
    assert len(features[:, 1].unique()) == 400
    assert len(features) <= ROWS


def test_a_part_of_a_state_leaves_the_terms_as_they_are():
    model = torch.nn.ModuleDict({"a": OdeDynamics(3, 0, DT), "b": torch.nn.Linear(2, 2)})
    count = model["a"].polynomial.weight.shape[1]
    model["a"].polynomial.start_at(torch.ones(count, 3))
    model.load_state_dict({"b.weight": torch.zeros(2, 2), "b.bias": torch.zeros(2)}, strict=False)
    assert model["a"].polynomial.level > 1
    assert bool(model["a"].polynomial.weight.all())


def test_one_step_of_the_solver_is_taken_where_it_forecasts_as_well():
    z, c = _lorenz(40, 41)
    few, many = (OdeDynamics(3, 1, DT, stride, members=2, hidden=8, depth=1, substeps=4).double() for stride in (1, 4))
    few.start_from_linear(z[:, ::1], c)
    many.start_from_linear(z, c)
    assert few.substeps == 1  # a step of 0.02 is short
    assert float(many.polynomial.used) > 0
    assert many.substeps == 4  # one of 0.08 is not: its error would be that of the solver
    other = OdeDynamics(3, 1, DT, 1, members=2, hidden=8, depth=1, substeps=4).double()
    older = {name: value for name, value in few.state_dict().items() if name != "steps"}
    other.load_state_dict(older)
    assert other.substeps == 4
    other.load_state_dict(few.state_dict())
    assert other.substeps == 1
    assert torch.equal(other.rollout(z[:4, 0], c[:4], DT, 20), few.rollout(z[:4, 0], c[:4], DT, 20))


@pytest.mark.parametrize("conditions", [0, 2])
def test_products_are_the_same_with_and_without_gradients_and_in_parts(conditions):
    terms = PolynomialTerms(4, conditions, 3).double()
    g = torch.Generator().manual_seed(0)
    terms.start_at(torch.randn(terms.weight.shape[1:], generator=g, dtype=torch.float64))
    z, c = (torch.randn(3, AT_ONCE + 7, k, generator=g, dtype=torch.float64) for k in (4, conditions))
    with_gradients = terms(z.requires_grad_(), c)
    with torch.no_grad():
        without = terms(z, c)
        one_by_one = torch.cat([terms(z[:, k : k + 1], c[:, k : k + 1]) for k in range(5)], 1)
    torch.testing.assert_close(with_gradients.detach(), without)  # the sums are made in parts without them
    torch.testing.assert_close(one_by_one, without[:, :5])


def test_products_have_forward_mode_derivatives_without_gradients():
    """First-order propagation of uncertainty asks for them."""
    model = OdeDynamics(3, 0, DT, 1, members=2, hidden=8, depth=1).double()
    g = torch.Generator().manual_seed(0)
    model.polynomial.start_at(0.02 * torch.randn(model.polynomial.weight.shape[1:], generator=g, dtype=torch.float64))
    z, direction = 0.3 * torch.randn(2, 5, 3, generator=g, dtype=torch.float64)
    c = torch.zeros(5, 0, dtype=torch.float64)

    def end(z):
        return model.rollout(z, c, DT, 4)[-1]

    with torch.no_grad():
        _, slope = torch.func.jvp(end, (z,), (direction,))
        several = torch.func.vmap(lambda d: torch.func.jvp(end, (z,), (d,))[1])(torch.stack([direction, 2 * direction]))
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.unpack_dual(end(torch.autograd.forward_ad.make_dual(z, direction)))
        numeric = (end(z + 1e-6 * direction) - end(z - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close(slope, numeric, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(dual.tangent, slope)
    torch.testing.assert_close(several, torch.stack([slope, 2 * slope]))


def test_times_within_a_long_step_are_read_off_where_that_is_as_good():
    """The cubic is of fourth order; rollouts of any length agree where they overlap, and with what is exported."""
    z, c = _lorenz(60, 161)
    noisy = z + 0.3 * torch.randn(z.shape, generator=torch.Generator().manual_seed(2), dtype=z.dtype)
    model, exact = (OdeDynamics(3, 1, DT, 4, members=2, hidden=8, depth=1).double() for _ in range(2))
    exact.start_from_linear(z, c)
    assert not exact.reads_off  # beside data without noise, the error would be that of the cubic
    model.start_from_linear(noisy, c)
    assert float(model.polynomial.used) > 0
    assert model.reads_off
    assert model.substeps == 1
    start, beside = z[:5, 0], c[:5]
    path = model.rollout(start, beside, DT, 14)
    for steps in (1, 3, 4, 6, 8):
        assert torch.equal(model.rollout(start, beside, DT, steps), path[: steps + 1])
    torch.testing.assert_close(model.within(start[:, None], beside), path[1:5])
    onward = torch.cat([part for _, part in model.passing(start, beside, 14, 4)])
    torch.testing.assert_close(onward, path)
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again.rollout(start, beside, DT, 14), path)
    off = []
    for scale in (1, 2, 4):  # rollouts of the same field in shorter large steps
        fine = OdeDynamics(3, 1, DT / scale, 4, members=2, hidden=8, depth=1).double()
        fine.load_state_dict(model.state_dict() | {"dt": model.dt / scale})
        fine.linear.data.div_(scale)
        fine.drift.data.div_(scale)
        fine.polynomial.weight.data.div_(scale)
        fine.network.layers[-1].weight.data.div_(scale)
        fine.network.layers[-1].bias.data.div_(scale)
        off.append(fine.rollout(start, beside, DT / scale, 12 * scale)[::scale].detach())
    first, second = ((each - off[2]).abs().max() for each in off[:2])
    assert float(first / second) > 10
