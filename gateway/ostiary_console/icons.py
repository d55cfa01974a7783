"""Small pictures, drawn in the page itself so that they have its colours."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

_ICONS: Final = {
    "allow": '<path d="M3 14V3a1 1 0 0 1 1-1h8a1 1 0 0 1 1 1v11M1.5 14h13M6 14V4l-3-2M5 9v.01"/>',
    "deny": '<path d="M3 14V3a1 1 0 0 1 1-1h8a1 1 0 0 1 1 1v11M1.5 14h13M5.5 5.5l5 5m0-5-5 5"/>',
    "ask": '<path d="M3 14V3a1 1 0 0 1 1-1h8a1 1 0 0 1 1 1v11M1.5 14h13M6.3 6a1.8 1.8 0 1 1 2.6 1.6c-.6.3-.9.7-.9 1.3M8 11.4v.01"/>',
    "audit": '<path d="M1.5 8s2.4-4.2 6.5-4.2S14.5 8 14.5 8 12.1 12.2 8 12.2 1.5 8 1.5 8z"/><circle cx="8" cy="8" r="1.9"/>',
    "mask": '<path d="M2 5.5c2-1.2 4-1.2 6 0 2-1.2 4-1.2 6 0 0 4-1.2 6-3 6-1.5 0-2-1.5-3-1.5s-1.5 1.5-3 1.5c-1.8 0-3-2-3-6zM4.7 7.7h1.6M9.7 7.7h1.6"/>',
    "sessions": '<path d="M2 3.5h12M2 8h12M2 12.5h8"/>',
    "live": '<circle cx="8" cy="8" r="1.7"/><path d="M4.8 11.2a4.5 4.5 0 0 1 0-6.4m6.4 0a4.5 4.5 0 0 1 0 6.4M2.6 13.4a7.6 7.6 0 0 1 0-10.8m10.8 0a7.6 7.6 0 0 1 0 10.8"/>',
    "approvals": '<path d="M8 1.8 13.5 4v4c0 3-2.2 5.2-5.5 6.2C4.7 13.2 2.5 11 2.5 8V4zM5.6 8l1.7 1.7 3.2-3.3"/>',
    "policies": '<path d="M4 1.8h6l2.5 2.5v9.9h-8.5zM6 6.5h4M6 9h4M6 11.5h2.5"/>',
    "connections": '<path d="M6.5 9.5 9.5 6.5M7 4.5 8.7 2.8a2.6 2.6 0 0 1 3.7 3.7L10.7 8.2M5.3 7.8 3.6 9.5a2.6 2.6 0 0 0 3.7 3.7L9 11.5"/>',
    "replay": '<path d="M2.5 8a5.5 5.5 0 1 0 1.8-4M4.5 1.5v2.7h2.7M8 5v3.2l2 1.3"/>',
    "search": '<circle cx="7" cy="7" r="4.5"/><path d="m10.4 10.4 3.6 3.6"/>',
    "theme": '<circle cx="8" cy="8" r="5.7"/><path d="M8 2.3v11.4A5.7 5.7 0 0 0 8 2.3z" fill="currentColor"/>',
    "keys": '<rect x="1.5" y="4" width="13" height="8.5" rx="1.3"/><path d="M4 7v.01M6.6 7v.01M9.2 7v.01M11.8 7v.01M5 10h6"/>',
    "exit": '<path d="M9.5 2.5h-6v11h6M7 8h7m-2.5-2.5L14 8l-2.5 2.5"/>',
    "next": '<path d="m6 3 5 5-5 5"/>',
    "close": '<path d="m4 4 8 8m0-8-8 8"/>',
    "clock": '<circle cx="8" cy="8" r="6"/><path d="M8 4.5V8l2.5 1.5"/>',
    "warning": '<path d="M8 2 14.5 13.5h-13zM8 6.5v3.2M8 11.6v.01"/>',
    "terminal": '<rect x="1.5" y="2.5" width="13" height="11" rx="1.3"/><path d="m4.3 6 2 2-2 2M8 10.5h3.5"/>',
    "database": '<ellipse cx="8" cy="3.8" rx="5" ry="2"/><path d="M3 3.8v8.4c0 1.1 2.2 2 5 2s5-.9 5-2V3.8M3 8c0 1.1 2.2 2 5 2s5-.9 5-2"/>',
    "wheel": '<path d="m8 1.5 5.1 2.4 1.3 5.5-3.5 4.4H5.1L1.6 9.4l1.3-5.5z"/><circle cx="8" cy="8.2" r="2.1"/><path d="M8 3.8v2.3M8 10.3v2M4.2 7.1l1.9.6M9.9 8.7l2 .6M4.8 11.2l1.6-1.5M11.8 7.1l-1.9.6"/>',
    "stop": '<circle cx="8" cy="8" r="6.2"/><path d="M5.7 5.7h4.6v4.6H5.7z"/>',
    "follow": '<path d="M8 2v9m-4-4 4 4 4-4M3 14h10"/>',
}
"""Strokes on a field of 16 by 16."""

_PROTOCOLS: Final = {"Postgres": "database", "Kubernetes": "wheel", "SSH": "terminal"}


def icon(name: str) -> Markup:
    """By its name; of a protocol by that. KeyError if there is none."""
    drawn = _ICONS[_PROTOCOLS.get(name, name)]
    head = (
        '<svg class="icon" viewBox="0 0 16 16" width="16" height="16" fill="none" stroke="currentColor" '
        'stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">'
    )
    return Markup(f"{head}{drawn}</svg>")  # noqa: S704 - nothing of others is in it
