"""Amounts as people read them: `1 h 20 min`, `13.5 GB`."""

from __future__ import annotations

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def shown_seconds(seconds: float) -> str:
    """A time in its two largest units, such as `1 h 20 min`; below ten seconds with a tenth.

    Args:
        seconds: Not negative.
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    rest = _rounded(seconds)
    shown: list[str] = []
    for name, size in _UNITS:
        count, rest = divmod(rest, size)
        if count or shown:
            shown.append(f"{count} {name}" if count else "")
        if len(shown) == 2:
            break
    return " ".join(part for part in shown if part)


def _rounded(seconds: float) -> int:
    """To the smaller of the two units that are shown."""
    whole = round(seconds)
    for size, below in ((86400, 3600), (3600, 60)):
        if whole >= size:
            return round(whole / below) * below
    return whole


def shown_bytes(count: float) -> str:
    """A number of bytes in its largest unit, decimal, such as `13.5 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
