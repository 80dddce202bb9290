"""Vectors of numbers in compiled loops: a type for Numba, and what can be done with it.

Numba leaves it to LLVM to find vectors in loops over single numbers, and LLVM rarely keeps a row of sums in registers
while another loop runs. Here a loop says what it means: a value of type :class:`Vector` is one LLVM vector, which any
processor's instructions make up (4 registers of AVX2 for 32 numbers of float32, 2 of AVX-512).

Lanes must be written as a number where these functions are called, for they are part of the type. Arrays are contiguous
and of one dimension; nothing is checked. A multiplication that an addition follows is rounded once where the processor
can; all else is rounded as written.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

_I32, _I64 = ir.IntType(32), ir.IntType(64)


class Vector(types.Type):
    """A fixed number of numbers of one type."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"vector({dtype}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        number = dmm.lookup(fe_type.dtype).get_data_type()
        super().__init__(dmm, fe_type, ir.VectorType(number, fe_type.lanes))  # type: ignore[no-untyped-call]


Code = Callable[[Any, Any, Any, Any], Any]


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any, lanes: int) -> tuple[Any, int]:
    """Return where a vector lies in an array, and the bytes that its address is a multiple of."""
    start = builder.gep(context.make_array(array_type)(context, builder, array).data, [at])
    number = context.get_data_type(array_type.dtype)
    return builder.bitcast(start, ir.VectorType(number, lanes).as_pointer()), array_type.dtype.bitwidth // 8


def _load(builder: Any, pointer: Any, align: int) -> Any:
    loaded = builder.load(pointer)
    loaded.align = align
    return loaded


def _store(builder: Any, value: Any, pointer: Any, align: int) -> None:
    builder.store(value, pointer).align = align


def _mixed(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    """Return lanes of two vectors, those of the second counted on."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


def _lanes(literal: Any) -> int | None:
    return literal.literal_value if isinstance(literal, types.IntegerLiteral) else None


@intrinsic(prefer_literal=True)
def load(typingctx: Any, lanes: Any, array: Any, at: Any) -> tuple[Any, Code] | None:
    """Return ``lanes`` numbers of an array from place ``at`` on."""
    n = _lanes(lanes)
    if n is None:
        return None

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _load(builder, *_pointer(context, builder, signature.args[1], args[1], args[2], n))

    return Vector(array.dtype, n)(lanes, array, types.int64), code


@intrinsic
def store(typingctx: Any, vector: Any, array: Any, at: Any) -> tuple[Any, Code]:
    """Write a vector into an array from place ``at`` on."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _store(builder, args[0], *_pointer(context, builder, signature.args[1], args[1], args[2], vector.lanes))
        return context.get_dummy_value()

    return types.void(vector, array, types.int64), code


@intrinsic(prefer_literal=True)
def splat(typingctx: Any, lanes: Any, number: Any) -> tuple[Any, Code] | None:
    """Return a vector of ``lanes`` times the same number."""
    n = _lanes(lanes)
    if n is None:
        return None

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[1], n)

    return Vector(number, n)(lanes, number), code


def _splat(builder: Any, number: Any, lanes: int) -> Any:
    nothing = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(_I32, 0))
    return _mixed(builder, one, nothing, [0] * lanes)


@intrinsic
def add_product(typingctx: Any, total: Any, vector: Any, factor: Any) -> tuple[Any, Code]:
    """Return ``total`` + ``vector`` · ``factor``, the factor being a number or a vector."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, x, f = args
        f = f if isinstance(factor, Vector) else _splat(builder, f, total.lanes)
        return builder.fadd(a, builder.fmul(x, f, flags=("contract",)), flags=("contract",))

    return total(total, vector, factor), code


@intrinsic
def product_sum(typingctx: Any, a: Any, b: Any) -> tuple[Any, Code]:
    """Return Σ a · b over the lanes: halves are added to each other until one is left."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        n = a.lanes
        most = min(n, 8)
        parts = [[_mixed(builder, v, v, list(range(k, k + most))) for k in range(0, n, most)] for v in args]
        total = builder.fmul(parts[0][0], parts[1][0], flags=("contract",))
        for x, y in zip(parts[0][1:], parts[1][1:], strict=True):
            total = builder.fadd(total, builder.fmul(x, y, flags=("contract",)), flags=("contract",))
        while most > 1:
            most //= 2
            low, high = (_mixed(builder, total, total, list(range(start, start + most))) for start in (0, most))
            total = builder.fadd(low, high)
        return builder.extract_element(total, ir.Constant(_I32, 0))

    return a.dtype(a, b), code


@intrinsic
def plus(typingctx: Any, a: Any, b: Any) -> tuple[Any, Code]:
    """Return the sum of two vectors."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(args[0], args[1])

    return a(a, b), code


@intrinsic
def transpose_8(
    typingctx: Any, given: Any, at: Any, stride: Any, result: Any, to: Any, to_stride: Any
) -> tuple[Any, Code]:
    """Write the transpose of a block of 8 × 8 numbers.

    Args:
        given: array in which the block's rows begin at ``at``, ``at + stride``, …
        result: array into which those of the transpose are written, at ``to``, ``to + to_stride``, …
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, start, step, y, to_start, to_step = args

        def places(array_type: Any, array: Any, first: Any, stride: Any) -> list[tuple[Any, int]]:
            rows = [builder.add(first, builder.mul(stride, ir.Constant(_I64, row))) for row in range(8)]
            return [_pointer(context, builder, array_type, array, row, 8) for row in rows]

        rows = [_load(builder, *place) for place in places(signature.args[0], x, start, step)]
        low = [0, 8, 1, 9, 4, 12, 5, 13]
        pairs = [
            _mixed(builder, rows[k], rows[k + 1], [lane + shift for lane in low])
            for k in (0, 2, 4, 6)
            for shift in (0, 2)
        ]
        fours = []
        for k in (0, 1, 4, 5):
            for first in (0, 2):
                lanes = [first, first + 1, first + 8, first + 9, first + 4, first + 5, first + 12, first + 13]
                fours.append(_mixed(builder, pairs[k], pairs[k + 2], lanes))
        eights = [
            _mixed(builder, fours[k], fours[k + 4], [half + lane for lane in (0, 1, 2, 3, 8, 9, 10, 11)])
            for half in (0, 4)
            for k in range(4)
        ]
        for row, place in zip(eights, places(signature.args[3], y, to_start, to_step), strict=True):
            _store(builder, row, *place)
        return context.get_dummy_value()

    integers = types.int64, types.int64
    return types.void(given, *integers, result, *integers), code
