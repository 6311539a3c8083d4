"""The memory of a training step, counted without computing it: on fake tensors, which have a shape and no content.

Knows models and no recipes.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

_CONTENT = torch.ops.aten._local_scalar_dense.default  # what `bool(tensor)` and `tensor.item()` call


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are made within it: those alive `now`, and the `peak`.

    Those of `module` were made before it. So they do not count, and neither do views of them, as products of linear
    layers make of their weights.

    Fake tensors have no content; a question for it is answered with 0. So a mask counts as one that masks something,
    which costs an attention the most memory.
    """

    def __init__(self, module: nn.Module | None = None) -> None:
        super().__init__()
        self.now = self.peak = 0
        before = [tensor.untyped_storage() for tensor in _tensors(module)] if module else []
        self._known: dict[int, Any] = {id(storage): storage for storage in before}  # or a weak reference to it

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator and count the tensors that it returns."""
        if func is _CONTENT:
            return args[0].dtype is not torch.bool and 0
        made = func(*args, **kwargs or {})
        for each in tree_iter(made):
            if isinstance(each, Tensor):
                self._count(each)
        return made

    def _count(self, tensor: Tensor) -> None:
        parts = [tensor._indices(), tensor._values()] if tensor.is_sparse else [tensor]
        for storage in (part.untyped_storage() for part in parts):
            if id(storage) in self._known:
                continue
            size, key = storage.nbytes(), id(storage)
            self.now += size
            self.peak = max(self.peak, self.now)
            self._known[key] = weakref.ref(storage, self._freed(key, size))

    def _freed(self, key: int, size: int) -> Callable[[Any], None]:
        def free(_: Any) -> None:
            self.now -= size
            del self._known[key]

        return free


def peak_bytes(run: Callable[[], Any], module: nn.Module) -> int:
    """Return the most bytes that tensors made within `run` take at once, beside those of `module`."""
    with LiveBytes(module) as live:
        run()
    return live.peak


def size_of(module: nn.Module) -> int:
    """Return the bytes of a module's parameters and buffers."""
    return sum(part.numel() * part.element_size() for part in _tensors(module))


def _tensors(module: nn.Module) -> tuple[Tensor, ...]:
    return (*module.parameters(), *module.buffers())
