"""The innermost loops, written in LLVM's own language: what stays in a processor's registers.

A compiler that is shown three nested loops does not find this by itself: a tile of the result that is held in
registers while the depth runs, each number of ``a`` multiplied with a whole vector of ``b``. See Goto and van de Geijn,
"Anatomy of high-performance matrix multiplication" (ACM TOMS 34(3), 2008).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

FEATURES = vars(config)["CPU_FEATURES"]  # NUMBA_CPU_FEATURES; None: those of this processor
if FEATURES is None:
    FEATURES = llvm.get_host_cpu_features().flatten()
_HAS = {feature.removeprefix("+") for feature in FEATURES.split(",") if feature.startswith("+")}

LANES = 16 if "avx512f" in _HAS else 8 if "avx2" in _HAS else 4
"""Numbers in a vector register."""
ROWS, VECTORS = (6, 2) if LANES == 8 else (6, 4)
"""A tile: with 16 registers of AVX2 it is half as wide as with the 32 of AVX-512 or NEON."""

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_F32, LANES)
_ZERO = ir.Constant(_VECTOR, [0.0] * LANES)


def _spread(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Return a vector of equal numbers."""
    empty = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(empty, value, _I32(0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


class _Matrix:
    """A matrix of the kernel's: where its numbers stand."""

    def __init__(self, context: Any, builder: ir.IRBuilder, kind: types.Array, value: ir.Value) -> None:
        array = context.make_array(kind)(context, builder, value)
        size = _I64(4)
        self._builder, self._data = builder, array.data
        self.row, self.column = (
            builder.sdiv(stride, size) for stride in cgutils.unpack_tuple(builder, array.strides, 2)
        )
        self.shape = cgutils.unpack_tuple(builder, array.shape, 2)

    def at(self, row: ir.Value, column: ir.Value) -> ir.Value:
        """Return a pointer to a number."""
        builder = self._builder
        offset = builder.add(builder.mul(row, self.row), builder.mul(column, self.column))
        return builder.gep(self._data, [offset])


class _Vectors:
    """Loads and stores of vectors, of which ``width`` lanes count; ``None``: all."""

    def __init__(self, builder: ir.IRBuilder, width: ir.Value | None) -> None:
        self._builder, self._mask = builder, None
        if width is not None:
            lanes = ir.Constant(ir.VectorType(_I64, LANES), list(range(LANES)))
            self._mask = builder.icmp_signed("<", lanes, _spread(builder, width))

    def load(self, pointer: ir.Value) -> ir.Value:
        builder = self._builder
        pointer = builder.bitcast(pointer, _VECTOR.as_pointer())
        if self._mask is None:
            loaded = builder.load(pointer)
            loaded.align = 4
            return loaded
        return self._masked("load", _VECTOR, [pointer, _I32(4), self._mask, _ZERO])

    def store(self, vector: ir.Value, pointer: ir.Value) -> None:
        builder = self._builder
        pointer = builder.bitcast(pointer, _VECTOR.as_pointer())
        if self._mask is None:
            builder.store(vector, pointer).align = 4
        else:
            self._masked("store", ir.VoidType(), [vector, pointer, _I32(4), self._mask])

    def _masked(self, verb: str, result: ir.Type, given: list[ir.Value]) -> ir.Value:
        kind = ir.FunctionType(result, [value.type for value in given])
        name = f"llvm.masked.{verb}.v{LANES}f32.p0"
        return self._builder.call(cgutils.get_or_insert_function(self._builder.module, kind, name), given)


def _tile(rows: int, vectors: int, partial: bool = False) -> Callable[..., None]:
    """Return ``tile(a, b, c, row, column, width, add)``, for compiled code: one tile of ``c = a @ b``, or of ``+=``.

    It writes ``rows`` rows from ``row`` on, and ``vectors`` vectors from ``column`` on, or the ``width`` lanes of one
    vector if it is ``partial``. All are matrices of float32; numbers of a row of ``b`` and ``c`` stand side by side.
    """

    def tile(typing: Any, a: Any, b: Any, c: Any, row: Any, column: Any, width: Any, add: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
            left, right, result = (
                _Matrix(context, builder, kind, value)
                for kind, value in zip(signature.args[:3], given[:3], strict=True)
            )
            row, column, width, add = given[3:]
            depth = left.shape[1]
            memory = _Vectors(builder, width if partial else None)
            places = [
                result.at(builder.add(row, _I64(r)), builder.add(column, _I64(v * LANES)))
                for r in range(rows)
                for v in range(vectors)
            ]
            first_left, first_right = left.at(row, _I64(0)), right.at(_I64(0), column)

            start = builder.block
            adding, head, body, end = (builder.append_basic_block(name) for name in ("adding", "head", "body", "end"))
            builder.cbranch(add, adding, head)
            builder.position_at_end(adding)
            earlier = [memory.load(place) for place in places]
            builder.branch(head)

            builder.position_at_end(head)
            begun = [_either(builder, (_ZERO, start), (value, adding)) for value in earlier]
            builder.cbranch(builder.icmp_signed(">", depth, _I64(0)), body, end)

            builder.position_at_end(body)
            step, at_left, at_right = (
                builder.phi(_I64),
                *(builder.phi(first.type) for first in (first_left, first_right)),
            )
            sums = [builder.phi(_VECTOR) for _ in begun]
            across = [memory.load(builder.gep(at_right, [_I64(v * LANES)])) for v in range(vectors)]
            gained = []
            for r in range(rows):
                down = _spread(builder, builder.load(builder.gep(at_left, [builder.mul(_I64(r), left.row)])))
                for v in range(vectors):
                    # "contract": one fused instruction where the processor has it, two elsewhere
                    times = builder.fmul(down, across[v], flags=["contract"])
                    gained.append(builder.fadd(times, sums[r * vectors + v], flags=["contract"]))
            following = builder.add(step, _I64(1))
            turns = [
                (step, _I64(0), following),
                (at_left, first_left, builder.gep(at_left, [left.column])),
                (at_right, first_right, builder.gep(at_right, [right.row])),
                *zip(sums, begun, gained, strict=True),
            ]
            builder.cbranch(builder.icmp_signed("<", following, depth), body, end)
            for phi, first, turn in turns:
                phi.add_incoming(first, head)
                phi.add_incoming(turn, body)

            builder.position_at_end(end)
            ended = [_either(builder, (a, head), (b, body)) for a, b in zip(begun, gained, strict=True)]
            for vector, place in zip(ended, places, strict=True):
                memory.store(vector, place)
            return context.get_dummy_value()

        return types.void(a, b, c, row, column, width, add), generate

    return intrinsic(tile)


def _either(builder: ir.IRBuilder, *values: tuple[ir.Value, ir.Block]) -> ir.Value:
    phi = builder.phi(_VECTOR)
    for value, block in values:
        phi.add_incoming(value, block)
    return phi


full_tile, full_row = _tile(ROWS, VECTORS), _tile(1, VECTORS)
narrow_tile, narrow_row = _tile(ROWS, 1, partial=True), _tile(1, 1, partial=True)


def _transposed_square(typing: Any, a: Any, c: Any, row: Any, column: Any) -> Any:
    """``c[column + j, row + i] = a[row + i, column + j]`` for i and j below :data:`LANES`, in registers."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        source, result = (_Matrix(context, builder, signature.args[n], given[n]) for n in range(2))
        row, column = given[2:]
        memory = _Vectors(builder, None)
        held = [memory.load(source.at(builder.add(row, _I64(i)), column)) for i in range(LANES)]
        distance = LANES // 2
        while distance:
            # swap the off-diagonal halves of every 2 x 2 block of squares whose side is the distance
            upper = [lane if not lane & distance else LANES + lane - distance for lane in range(LANES)]
            lower = [lane + distance if not lane & distance else LANES + lane for lane in range(LANES)]
            for i in (i for i in range(LANES) if not i & distance):
                pair = held[i], held[i + distance]
                for at, lanes in ((i, upper), (i + distance, lower)):
                    held[at] = builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(_I32, LANES), lanes))
            distance //= 2
        for j in range(LANES):
            memory.store(held[j], result.at(builder.add(column, _I64(j)), row))
        return context.get_dummy_value()

    return types.void(a, c, row, column), generate


transposed_square: Any = intrinsic(_transposed_square)
