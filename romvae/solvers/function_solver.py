"""A function of one's own as a reference solver."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from romvae.errors import ConfigError
from romvae.schema import Field, Grid
from romvae.solvers.arguments import finite
from romvae.solvers.base import Array, Solver

__all__ = ["FunctionSolver"]


class FunctionSolver(Solver):
    """A plain function `(u0, parameters, times) -> u` as a solver, without a class of its own.

    The function gets the field at `times[0]`, `(field, *space)`, the parameters by name and the times, and returns
    the fields at all times, `(time, field, *space)`. What it returns is checked. For a `Case`, leave out the
    parameters that vary: `partial(FunctionSolver, function, fields, grid, initial)`; for several processes,
    function and `initial` have to be importable by name. `verify_solver` holds the result to the laws of `Solver`.

    Limits: trajectories are solved one by one, and there is no finer version unless `finer` is given. Without `coarser`
    a ROM is compared with the function as it is, which is more accurate than the ROM has to be: that flatters the ROM.

    Arguments:
        function: The simulation.
        fields: Names, or `Field`s with units and long names, in the order of the arrays' first axis.
        grid: The axes, in the order z, y, x, with what holds at their ends.
        initial: `initial(rng)` gives a random initial field; None where the fields are always given.
        finer: The same computation with a smaller step or tolerance, for estimates of the error.
        coarser: Cheaper versions of the function, from the most accurate to the cheapest, with which `romvae.compare`
            looks for the cost at equal accuracy: each returns the same grid, and may use fewer points, longer steps or
            a looser tolerance inside, such as `[partial(function, tolerance=t) for t in (1e-4, 1e-3, 1e-2)]`.
        name: What messages and stores call the solver; None takes the function's name.
        equation: The equation in plain text.
        scheme: The discretisation in a few words.
        units: Units of parameters, axes and `time`; what is not listed is dimensionless.
        parameters: Physical parameters, such as `damping=0.1`.

    Raises:
        ConfigError: An argument does not fit.
    """

    name: ClassVar[str] = "function"
    equation: ClassVar[str] = ""
    fields: ClassVar[tuple[Field, ...]] = ()

    def __init__(
        self,
        function: Callable[[Array, Mapping[str, float], Array], ArrayLike],
        fields: Sequence[str | Field],
        grid: Grid,
        initial: Callable[[np.random.Generator], ArrayLike] | None = None,
        *,
        finer: Callable[[Array, Mapping[str, float], Array], ArrayLike] | None = None,
        coarser: Sequence[Callable[[Array, Mapping[str, float], Array], ArrayLike]] = (),
        name: str | None = None,
        equation: str = "",
        scheme: str = "",
        units: Mapping[str, str] | None = None,
        **parameters: float,
    ) -> None:
        title = name or str(getattr(function, "__name__", "function"))
        if not isinstance(grid, Grid):
            raise ConfigError(f"{title}: grid is {type(grid).__name__}, expected romvae.schema.Grid")
        if isinstance(fields, str) or not fields:
            raise ConfigError(f"{title}: fields is {fields!r}, expected a list of at least one name")
        described = tuple(field if isinstance(field, Field) else Field(field) for field in fields)
        taken = {*grid.names, "time", "trajectory", "mask"} & {field.name for field in described}
        if taken:
            raise ConfigError(f"{title}: a field is called {min(taken)!r}, as an axis of the data is. Rename it")
        if not isinstance(coarser, Sequence) or not all(callable(each) for each in coarser):
            raise ConfigError(
                f"{title}: coarser is {type(coarser).__name__}, expected a list of functions like the first argument, "
                "from the most accurate to the cheapest"
            )
        # What other solvers say of their class is here a fact of each object.
        vars(self).update(name=title, fields=described, equation=equation, scheme=scheme, units=dict(units or {}))
        self.function, self.finer, self.random_field = function, finer, initial
        self.coarser = tuple(coarser)
        self.grid = grid
        self.parameters = {key: finite(title, key, value) for key, value in parameters.items()}

    @property
    def settings(self) -> dict[str, Any]:
        """Where the function is from."""
        module, name = getattr(self.function, "__module__", ""), getattr(self.function, "__qualname__", "")
        return {"function": f"{module}.{name}" if name else repr(type(self.function).__name__)}

    def refined(self) -> FunctionSolver | None:
        """The same with the function `finer`."""
        if self.finer is None:
            return None
        finer = copy.copy(self)
        finer.function, finer.finer = self.finer, None
        return finer

    def coarsened(self) -> dict[str, Solver]:
        """The same with each of the functions `coarser`, by their names and what `functools.partial` has given them."""
        found: dict[str, Solver] = {}
        for number, function in enumerate(self.coarser, start=1):
            label = _label(function)
            label = f"{label}, number {number}" if label in found else label
            version = copy.copy(self)
            version.function, version.finer, version.coarser = function, None, ()
            vars(version)["name"] = f"{self.name}, coarser: {label}"
            found[label] = version
        return found

    def initial(self, rng: np.random.Generator) -> Array:
        """What the function `initial` gives, `(field, *space)`."""
        if self.random_field is None:
            raise ConfigError(f"{self.name}: has no random initial field. Give FunctionSolver the argument initial")
        return self._checked("initial", self.random_field(rng), self.shape, "(field, *space)")

    def _integrate(self, u0: Array, times: Array) -> Array:
        try:
            returned = self.function(u0.copy(), dict(self.parameters), times.copy())
        except (ArithmeticError, np.linalg.LinAlgError) as error:
            raise self.failed(times[0], f"the function raised {type(error).__name__}: {error}") from error
        return self._checked("the function", returned, (times.size, *self.shape), "(time, field, *space)")

    def _checked(self, what: str, returned: Any, shape: tuple[int, ...], dims: str) -> Array:
        try:
            array = np.array(returned, dtype=np.float64)
        except (TypeError, ValueError) as error:
            kind = type(returned).__name__
            raise ConfigError(
                f"{self.name}: {what} returned {kind}, expected numbers of shape {dims} = {shape}"
            ) from error
        if array.shape != shape:
            hint = ""
            if array.size == np.prod(shape):
                hint = ". The number of values is right: order the axes, or keep the axis of a single field"
            raise ConfigError(f"{self.name}: {what} returned shape {array.shape}, expected {dims} = {shape}{hint}")
        return array


def _label(function: Callable[..., Any]) -> str:
    """The name of a function, with the settings that `functools.partial` has fixed.

    >>> from functools import partial
    >>> _label(partial(sorted, reverse=True))
    'sorted, reverse = True'
    """
    if isinstance(function, partial):
        fixed = [*map(str, function.args), *(f"{name} = {value}" for name, value in function.keywords.items())]
        return ", ".join([_label(function.func), *fixed])
    return str(getattr(function, "__name__", type(function).__name__))
