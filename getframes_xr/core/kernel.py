"""The one Numba decorator: compiled loops over pixels that give the same bytes on every machine.

``@kernel`` compiles without fastmath (so no multiply and add is contracted or reordered), without the GIL,
with NumPy's error model (a division by zero gives inf, never a branch), and keeps the machine code on disk.
Numba looks only at a kernel's own source file when it decides whether stored machine code is still right; a
helper inlined from another file may have changed meanwhile. Here each kernel's code lies in a folder named by
a *stamp*: the digest of its source file, of the compiler's version (two environments share the user's cache, and one
cannot read the other's code), and of everything outside the function that compiling freezes into it (helpers and their
stamps, constants, tables). The folder is handed to Numba only for the moment of its own
``njit`` call, so kernels of other packages stay where they were; where nothing can be written, the code
simply lives in memory.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from enum import EnumMeta
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Literal, TypeVar, overload

import llvmlite
import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
Inline = Literal["never", "always"]

_FOLDER_LOCK = threading.Lock()  # numba.config.CACHE_DIR belongs to the whole process


@overload
def kernel(function: Function) -> Function: ...
@overload
def kernel(*, inline: Inline = ...) -> Callable[[Function], Function]: ...
def kernel(function: Any = None, *, inline: Inline = "never") -> Any:
    """Compile a function of arrays and numbers; usable as ``@kernel`` and ``@kernel(inline="always")``.

    Parameters
    ----------
    function : callable
        Plain loops over C-contiguous arrays of fixed dtypes. What must be byte-exact uses + - * / sqrt,
        comparisons and floor only; never a transcendental of libm or NumPy.
    inline : {"never", "always"}
        "always" pastes the body into its callers before LLVM sees them; for helpers of one pixel.

    Returns
    -------
    callable
        The compiled function; it releases the GIL and never contracts or reorders floating point arithmetic.
    """
    if function is None:
        return lambda decorated: _compiled(decorated, inline)
    return _compiled(function, inline)


def _compiled(function: Any, inline: Inline) -> Any:
    function.kernel_stamp = _stamp(function)
    options: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy", "inline": inline}
    root = _cache_root() if os.path.isfile(function.__code__.co_filename) else None
    if root is not None:
        with _FOLDER_LOCK:
            before = numba.config.CACHE_DIR
            numba.config.CACHE_DIR = os.path.join(root, function.kernel_stamp)
            try:
                return numba.njit(cache=True, **options)(function)
            except RuntimeError:  # numba: "cannot cache function ...: no locator available"
                pass
            finally:
                numba.config.CACHE_DIR = before
    return numba.njit(cache=False, **options)(function)


@cache
def _cache_root() -> str | None:
    """First folder that can be written: Numba's own if set, the user's cache, the package; else None."""
    for folder in _cache_candidates():
        try:
            os.makedirs(folder, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return None


def _cache_candidates() -> Iterator[str]:
    if numba.config.CACHE_DIR:
        yield os.path.join(numba.config.CACHE_DIR, "getframes-xr")
    home = os.path.expanduser("~")
    if os.environ.get("XDG_CACHE_HOME"):
        yield os.path.join(os.environ["XDG_CACHE_HOME"], "getframes-xr", "kernels")
    elif os.path.isabs(home):
        middle = {"darwin": ("Library", "Caches"), "win32": ("AppData", "Local")}.get(sys.platform, (".cache",))
        yield os.path.join(home, *middle, "getframes-xr", "kernels")
    yield str(Path(__file__).parent / "__pycache__" / "kernels")


def _stamp(function: Any) -> str:
    digest = hashlib.blake2b(_source(function), digest_size=12)
    digest.update(f"\0numba {numba.__version__}, llvmlite {llvmlite.__version__}, {sys.version}\0".encode())
    digest.update(f"\0{function.__module__}\0".encode())  # stored code asks for its module by name when it is loaded
    for name, value in sorted(_frozen(function.__code__, function.__globals__).items()):
        digest.update(f"\0{name}\0".encode())
        digest.update(_content(value))
    return digest.hexdigest()


def _frozen(code: CodeType, names: dict[str, Any]) -> dict[str, Any]:
    """Collect the globals a function names, looking into modules of this package (``philox.words_row``)."""
    found = {name: names[name] for name in code.co_names if name in names}
    for module_name, module in list(found.items()):
        if isinstance(module, ModuleType) and module.__name__.split(".")[0] == __name__.split(".")[0]:
            for name in code.co_names:
                if hasattr(module, name):
                    found[f"{module_name}.{name}"] = getattr(module, name)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found.update(_frozen(constant, names))
    return found


def _content(value: Any) -> bytes:
    """Reduce a frozen value to bytes that change whenever the compiled code would."""
    inner = getattr(value, "py_func", value)
    if isinstance(inner, FunctionType):
        return str(getattr(inner, "kernel_stamp", "")).encode() or _source(inner)
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{value.shape}".encode() + value.tobytes()
    if isinstance(value, EnumMeta):
        return repr([(member.name, member.value) for member in value]).encode()  # type: ignore[var-annotated]
    if isinstance(value, (bool, int, float, complex, str, bytes, tuple, np.generic)):
        return repr(value).encode()
    return f"{type(value).__name__} {getattr(value, '__name__', '')}".encode()


def _source(function: Any) -> bytes:
    code = function.__code__
    return _file_bytes(code.co_filename) or code.co_code + repr(code.co_consts).encode()


@cache
def _file_bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
