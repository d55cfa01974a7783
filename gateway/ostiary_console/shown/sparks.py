"""Small charts, as SVG that needs no style of its own: bars of requests by hour, the denied ones in front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

HEIGHT: Final = 22
_STEP: Final = 5


def spark(values: Sequence[int], label: str, front: Sequence[int] = ()) -> Markup:
    """Bars, the oldest first. `front`: of each bar so many are of another kind. The label says it to who cannot see."""
    top = max(values, default=0)
    bars = Markup("")
    for index, value in enumerate(values):
        if not value:
            continue
        bars += _bar(index, value, top, "bar")
        if index < len(front) and front[index]:
            bars += _bar(index, front[index], top, "bar front")
    width = max(1, len(values)) * _STEP
    return Markup(
        '<svg class="spark" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}" '
        'preserveAspectRatio="none"><path class="ground" d="M0 {}h{}"/>{}</svg>'
    ).format(label, width, HEIGHT, width, HEIGHT, HEIGHT - 0.5, width, bars)


def _bar(index: int, value: int, top: int, name: str) -> Markup:
    height = max(1.5, value / top * (HEIGHT - 2))
    return Markup('<rect class="{}" x="{}" y="{:.1f}" width="{}" height="{:.1f}"/>').format(
        name, index * _STEP, HEIGHT - 1 - height, _STEP - 1, height
    )
