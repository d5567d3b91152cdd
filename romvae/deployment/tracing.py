"""From a part of a ROM to a file that runs without romvae: a `torch.export` archive, or an ONNX model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from romvae.errors import NumericsError, optional_import

__all__ = ["SUFFIX", "Format", "Program", "Runner", "opened", "written"]

Format = Literal["torch", "onnx"]
SUFFIX: dict[Format, str] = {"torch": ".pt2", "onnx": ".onnx"}
Runner = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]
"""A program read from its file: arrays by name in, arrays by name out."""

OPSET = 18
_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
"""What a graph remembers of the Python that it was made from: paths of this machine, and half of the file."""


@dataclass(frozen=True)
class Program:
    """One function to be exported.

    Arguments:
        name: Of the file, without suffix.
        summary: What it does, for the card.
        module: Takes the inputs as keywords and returns a dictionary of tensors.
        inputs: Example inputs by name.
        free: Which axes of an input may have any size, by the name of the input: axis to what it is called.
        outputs: Names of the outputs with what their axes are called.
    """

    name: str
    summary: str
    module: nn.Module
    inputs: Mapping[str, NDArray[Any]]
    free: Mapping[str, Mapping[int, str]]
    outputs: Mapping[str, str]

    def describe(self) -> dict[str, Any]:
        """Inputs and outputs as JSON types."""
        inputs = {}
        for name, value in self.inputs.items():
            free = self.free.get(name, {})
            shape = [free.get(axis, size) for axis, size in enumerate(value.shape)]
            inputs[name] = {"dtype": str(value.dtype), "shape": shape}
        return {"summary": self.summary, "inputs": inputs, "outputs": dict(self.outputs)}


def written(program: Program, path: Path, kind: Format) -> None:
    """Writes a program to a file.

    Raises:
        NumericsError: It cannot be traced for every size of its free axes.
    """
    tensors = {name: torch.from_numpy(value) for name, value in program.inputs.items()}
    with torch.no_grad(), _quietly():
        program.module(**tensors)  # fills what is computed once and kept, which must not happen while tracing
        exported = _traced(program, tensors)
        if kind == "torch":
            for module in exported.graph_module.modules():
                for node in getattr(getattr(module, "graph", None), "nodes", ()):
                    for trace in _TRACES:
                        node.meta.pop(trace, None)
            exported.example_inputs = None
            torch.export.save(exported, path)
            return
        model = torch.onnx.export(exported, (), kwargs=tensors, dynamo=True, verbose=False, opset_version=OPSET)
        if model is not None:
            _tidied(model.model.graph, list(program.outputs))
            model.save(path)


def opened(path: Path, outputs: Mapping[str, str]) -> Runner:
    """A written program, read from its file and ready to run on arrays, with nothing of romvae in it."""
    if path.suffix == SUFFIX["onnx"]:
        runtime = optional_import("onnxruntime", "onnx", "running an ONNX model")
        session = runtime.InferenceSession(path)
        names = list(outputs)
        return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))
    module = torch.export.load(path).module()

    def run(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        with torch.no_grad():
            out = module(**{name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in out.items()}

    return run


def _tidied(graph: Any, names: list[str]) -> None:
    """Names the outputs of an ONNX graph, which torch numbers, and forgets the Python that it was made from."""
    for node in graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
            if value.name in names:
                value.name = f"inner_{value.name}"
    for value, name in zip(graph.outputs, names, strict=True):
        value.name = name


def _traced(program: Program, tensors: Mapping[str, torch.Tensor]) -> torch.export.ExportedProgram:
    names = {name for free in program.free.values() for name in free.values()}
    dims = {name: torch.export.Dim(name, min=1) for name in sorted(names)}
    shapes = {
        name: {axis: dims[called] for axis, called in program.free.get(name, {}).items()} or None for name in tensors
    }
    try:
        return torch.export.export(program.module, (), dict(tensors), dynamic_shapes=shapes, strict=False)
    except (torch._dynamo.exc.UserError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise NumericsError(
            f"export: {program.name} cannot be written as a graph for every {' and '.join(sorted(names))}: {reason}. "
            "Report it with the model's settings, or use the ROM itself"
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's remarks on packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
