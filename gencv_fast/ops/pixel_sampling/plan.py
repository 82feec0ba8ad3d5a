"""From a model to the sampler's program: traces the module graph and gives the planner one part after another.

What depends on the condition alone is computed once, by the model's own modules.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from ...nn.masked_conv import MaskedConv2d
from ..masked_conv import gated_activation
from .planner import Known, Plan, Planner, refuse
from .program import Kind

_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ELU: "elu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.Identity: "none",
    nn.Dropout: "none",
    nn.Dropout2d: "none",
}
_FUNCTIONS: dict[Any, str] = {
    torch.relu: "relu",
    functional.relu: "relu",
    functional.elu: "elu",
    torch.tanh: "tanh",
    functional.tanh: "tanh",
    torch.sigmoid: "sigmoid",
    functional.sigmoid: "sigmoid",
    functional.dropout: "none",
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}
_SUMS = (operator.add, operator.iadd, torch.add, "add")
_DIFFERENCES = (operator.sub, operator.isub, torch.sub, "sub")
_PRODUCTS = (operator.mul, operator.imul, torch.mul, "mul")
_QUOTIENTS = (operator.truediv, operator.itruediv, torch.div, "div")
_NEGATIONS = (operator.neg, torch.neg, "neg")
_JOINS = (torch.cat, torch.concat)
_CHUNKS = (torch.chunk, "chunk")
_SPLITS = (torch.split, "split")
_VIEWS = (*_CHUNKS, *_SPLITS, operator.getitem)
_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
_CHANNELS = (1, -3)


def _is_masked(module: nn.Module) -> bool:
    """Not of a subclass that computes something else."""
    return isinstance(module, MaskedConv2d) and type(module).forward is MaskedConv2d.forward


class _Proxy(fx.Proxy):
    """Tells ``a += b`` from ``a = a + b``, which torch.fx takes for the same."""

    def _changed(self, function: Any, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    def __iadd__(self, other: Any) -> Any:
        return self._changed(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        return self._changed(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        return self._changed(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._changed(operator.itruediv, other)


class _Tracer(fx.Tracer):
    """Stops at what has an instruction of its own, and walks through all else."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=(gated_activation,))

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return _is_masked(module) or super().is_leaf_module(module, name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


def _graph_of(model: nn.Module) -> fx.Graph:
    try:
        return fx.GraphModule(model, _Tracer().trace(model)).graph
    except Exception as error:
        raise refuse(f"torch.fx cannot trace the model: {error}".rstrip(".")) from error


class _Reader:
    """Goes through the graph; `found` holds what each node gives: a planned value, or what the model itself makes."""

    def __init__(self, model: nn.Module, planner: Planner) -> None:
        self.model, self.planner = model, planner
        self.modules = dict(model.named_modules())
        self.found: dict[fx.Node, Any] = {}

    def run(self, condition: Any) -> Plan:
        graph = _graph_of(self.model)
        self._require_own_memory(graph)
        graph.eliminate_dead_code()
        inputs = [node for node in graph.nodes if node.op == "placeholder"]
        image = self.planner.image()
        self._take_inputs(inputs, image, condition)
        params: Any = None
        for node in graph.nodes:
            self.planner.name = getattr(node.target, "__name__", str(node.target))
            if node.op == "output":
                params = fx.node.map_arg(node.args[0], self.found.__getitem__)
            elif node.op != "placeholder":
                self.found[node] = self._node(node)
        return self.planner.finish(image, params)

    def _take_inputs(self, inputs: Sequence[fx.Node], image: Known, condition: Any) -> None:
        self.found[inputs[0]] = image
        for node in inputs[1:]:
            self.found[node] = condition if node is inputs[1] else node.args[0] if node.args else None
        if len(inputs) > 1 and condition is None and not inputs[1].args:
            raise refuse(f"the model wants a condition ({inputs[1].target})")
        if len(inputs) == 1 and condition is not None:
            raise refuse("the model takes no condition")

    def _node(self, node: fx.Node) -> Any:
        args: Any = fx.node.map_arg(node.args, self.found.__getitem__)
        kwargs: Any = fx.node.map_arg(node.kwargs, self.found.__getitem__)
        if any(isinstance(a, Known) for a in _leaves((args, kwargs))):
            if node.op == "call_module":
                return self._module(self.modules[str(node.target)], *args, **kwargs)
            return self._call(node.target, *args, **kwargs)
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.model)
        if node.op == "call_module":
            return self.modules[str(node.target)](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _require_own_memory(self, graph: fx.Graph) -> None:
        """What is changed in place must not be used afterwards, nor share its memory."""
        places = {node: place for place, node in enumerate(graph.nodes)}
        for node in filter(self._changes_in_place, graph.nodes):
            changed = node.all_input_nodes[0]
            is_view = changed.op == "placeholder" or changed.target is operator.getitem
            used_later = any(places[user] > places[node] or user.target in _VIEWS for user in changed.users)
            if is_view or used_later:
                name = getattr(node.target, "__name__", str(node.target))
                raise refuse(f"{name} changes in place what is used elsewhere too")

    def _changes_in_place(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return bool(getattr(self.modules[str(node.target)], "inplace", False))
        says_so = node.kwargs.get("inplace", False) or (node.target in _FUNCTIONS and node.args[-1] is True)
        return node.target in _IN_PLACE or bool(says_so)

    def _module(self, module: nn.Module, input: Known, condition: Any = None) -> Known:
        if isinstance(module, nn.Conv2d):  # no subclass but MaskedConv2d is a leaf of the graph
            if isinstance(condition, Tensor):
                condition = self.planner.constant(condition)
            return self.planner.convolution(input, module, condition)
        name = _MODULES.get(type(module))
        if name is None or getattr(module, "alpha", 1) != 1:
            raise refuse(f"{self.planner.name} ({type(module).__name__}) has no cached form")
        return self.planner.activation(input, name)

    def _call(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        if target is gated_activation:
            return self._gate(*args, **kwargs)
        if target in _FUNCTIONS:
            return self._activation(target, *args, **kwargs)
        if target is operator.getitem:
            return self._item(*args)
        if target in _NEGATIONS:
            return self._pair(Kind.MULTIPLY, args[0], -1.0)
        if target in _JOINS and _dim(1, 0, args, kwargs) in _CHANNELS:
            return self.planner.concatenation([self._known(a, None) for a in args[0]])
        if target in _CHUNKS and _dim(2, 0, args, kwargs) in _CHANNELS:
            return self._split(args[0], -(-len(args[0].colours) // args[1]))
        if target in _SPLITS and _dim(2, 0, args, kwargs) in _CHANNELS:
            return self._split(args[0], args[1])
        if len(args) == 2 and not kwargs and (found := self._arithmetic(target, *args)) is not None:
            return found
        raise self._no_form()

    def _no_form(self) -> RuntimeError:
        return refuse(f"{self.planner.name} of what depends on the image has no cached form")

    def _activation(self, target: Any, input: Known, *rest: Any, **kwargs: Any) -> Known:
        if target is functional.elu and (rest[:1] or (kwargs.get("alpha", 1),))[0] != 1:
            raise refuse("elu with an alpha other than 1 has no cached form")
        return self.planner.activation(input, _FUNCTIONS[target])

    def _gate(self, input: Any, condition: Any = None, **_: Any) -> Known:
        if isinstance(condition, Tensor):
            condition = self.planner.constant(condition)
        summed = input if condition is None else self.planner.pair(Kind.ADD, input, condition)
        return self.planner.activation(summed, "gate")

    def _arithmetic(self, target: Any, a: Any, b: Any) -> Known | None:
        if target in _SUMS:
            return self._pair(Kind.ADD, a, b)
        if target in _PRODUCTS:
            return self._pair(Kind.MULTIPLY, a, b)
        if target in _DIFFERENCES:
            negative = self._pair(Kind.MULTIPLY, b, -1.0) if isinstance(b, Known) else -b
            return self._pair(Kind.ADD, a, negative)
        if target in _QUOTIENTS and not isinstance(b, Known):
            return self._pair(Kind.MULTIPLY, a, 1 / b)
        return None

    def _pair(self, kind: Kind, a: Any, b: Any) -> Known:
        like = a if isinstance(a, Known) else b
        return self.planner.pair(kind, self._known(a, like), self._known(b, like))

    def _known(self, value: Any, like: Known | None) -> Known:
        """A tensor or number as a constant, of as many channels as what it is joined with."""
        if isinstance(value, Known):
            return value
        value = torch.as_tensor(value)
        if value.dim() > 4:
            raise self._no_form()
        value = value[(None,) * (4 - value.dim())]
        if like is not None and value.shape[1] == 1:
            value = value.expand(-1, len(like.colours), -1, -1)
        return self.planner.constant(value)

    def _item(self, source: Any, index: Any) -> Any:
        if isinstance(source, (list, tuple)):
            return source[index]
        if not isinstance(index, tuple) or len(index) < 2 or index[0] != slice(None):
            raise self._no_form()
        if not isinstance(index[1], slice) or any(i not in (slice(None), Ellipsis) for i in index[2:]):
            raise self._no_form()
        first, last, step = index[1].indices(len(source.colours))
        if step != 1:
            raise self._no_form()
        return self.planner.channels(source, first, last)

    def _split(self, input: Known, sizes: int | Sequence[int]) -> list[Known]:
        channels = len(input.colours)
        if isinstance(sizes, int):
            sizes = [min(sizes, channels - first) for first in range(0, channels, sizes)]
        found, first = [], 0
        for size in sizes:
            found.append(self.planner.channels(input, first, first + size))
            first += size
        return found


def _leaves(tree: Any) -> list[Any]:
    if isinstance(tree, (list, tuple)):
        return [leaf for item in tree for leaf in _leaves(item)]
    return _leaves(list(tree.values())) if isinstance(tree, dict) else [tree]


def _dim(place: int, default: int, args: Any, kwargs: dict[str, Any]) -> Any:
    return args[place] if len(args) > place else kwargs.get("dim", default)


def make_plan(
    model: nn.Module, head: nn.Module, images: int, shape: Sequence[int], dtype: torch.dtype, condition: Any = None
) -> tuple[Plan, str]:
    """The plan, and the ordering in which its lines and pixels are counted."""
    planner = Planner(model, head, images, shape, dtype)
    with torch.no_grad():
        return _Reader(model, planner).run(condition), planner.ordering
