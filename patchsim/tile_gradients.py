"""A map whose gradient is computed tile by tile, too, so that no graph holds all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from patchsim.problem import Pair

#: Ranges of batch, map rows and map columns.
Tile = tuple[slice, slice, slice]

#: (part of the image, templates, tile) -> that part of the map, (B, N, rows, cols).
OfTile = Callable[[Tensor, Tensor, Tile], Tensor]

#: Tiles of the map, and the part of the image that the windows of each cover.
Places = Sequence[tuple[Tile, tuple[slice, ...]]]


def mapped(of_tile: OfTile, places: Places, image: Tensor, kernel: Tensor, size: Pair) -> Tensor:
    """Compute a map, (B, N, Ho, Wo), of an image and templates that may require gradients.

    Each tile is computed again for its gradient. A gradient that is to be differentiated itself
    needs the graphs of all tiles at once.
    """
    result: Tensor = _Mapped.apply(of_tile, places, size, image, kernel)  # type: ignore[no-untyped-call]
    return result


class _Mapped(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, of_tile: OfTile, places: Places, size: Pair, image: Tensor, kernel: Tensor
    ) -> Tensor:
        ctx.of_tile, ctx.places = of_tile, places
        ctx.save_for_backward(image, kernel)
        output: Tensor | None = None
        for tile, place in places:
            piece = of_tile(image[place], kernel, tile)
            if output is None:
                output = piece.new_empty((len(image), piece.shape[1], *size))
            output[tile[0], :, tile[1], tile[2]] = piece
        assert output is not None
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image, kernel = ctx.saved_tensors
        whole = _connected if torch.is_grad_enabled() else _summed
        wanted = ctx.needs_input_grad[3:]
        return None, None, None, *whole(ctx.of_tile, ctx.places, (image, kernel), wanted, gradient)


def _connected(
    of_tile: OfTile,
    places: Places,
    tensors: tuple[Tensor, Tensor],
    wanted: tuple[bool, bool],
    gradient: Tensor,
) -> list[Tensor | None]:
    """Return gradients that can be differentiated."""
    image, kernel = tensors
    pieces = [of_tile(image[place], kernel, tile) for tile, place in places]
    slopes = [gradient[tile[0], :, tile[1], tile[2]] for tile, _ in places]
    given = [own for own, needed in zip(tensors, wanted, strict=True) if needed]
    found = iter(torch.autograd.grad(pieces, given, slopes, create_graph=True, allow_unused=True))
    return [next(found) if needed else None for needed in wanted]


def _summed(
    of_tile: OfTile,
    places: Places,
    tensors: tuple[Tensor, Tensor],
    wanted: tuple[bool, bool],
    gradient: Tensor,
) -> list[Tensor | None]:
    """Add up the gradients of tiles."""
    image, kernel = tensors
    pairs = list(zip(tensors, wanted, strict=True))
    totals = [torch.zeros_like(own) if needed else None for own, needed in pairs]
    for tile, place in places:
        parts = [
            own.detach().requires_grad_(needed)
            for own, needed in zip((image[place], kernel), wanted, strict=True)
        ]
        with torch.enable_grad():
            piece = of_tile(parts[0], parts[1], tile)
        given = [own for own in parts if own.requires_grad]
        slope = gradient[tile[0], :, tile[1], tile[2]]
        found = iter(torch.autograd.grad(piece, given, slope, allow_unused=True))
        everywhere: tuple[slice, ...] = (slice(None),)
        for total, where in zip(totals, (place, everywhere), strict=True):
            own = None if total is None else next(found)
            if total is not None and own is not None:
                total[where] += own
    return totals
