"""Lists and ranges as they are typed: `a,b`, `3..6`, `0,2..4`."""

MOST = 10_000
"""Numbers of a range."""


def listed(text: str) -> tuple[str, ...]:
    """`a, b` -> its parts; empty ones are left out."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def ends(option: str, text: str) -> tuple[int, int]:
    """`3..6` or `4` -> its ends. Raises RequestError naming the option."""
    from arithcirc.errors import RequestError

    low, dots, high = (part.strip() for part in text.partition(".."))
    high = high if dots else low
    if not (low.isdecimal() and high.isdecimal() and int(low) <= int(high)):
        raise RequestError(f"{option} is {text!r}: write a range LOW..HIGH, for example 3..6")
    return int(low), int(high)


def between(option: str, text: str) -> tuple[int, ...]:
    """`3..6` or `4` -> its numbers. Raises RequestError as `ends`, and for more than `MOST` numbers."""
    from arithcirc.errors import RequestError

    low, high = ends(option, text)
    if high - low >= MOST:
        raise RequestError(f"{option} is {text!r}: write a range of at most {MOST:,} numbers")
    return tuple(range(low, high + 1))


def wholes(option: str, text: str) -> tuple[int, ...]:
    """`0,2` or `0..2` -> its numbers. Raises RequestError as `ends`."""
    return tuple(number for part in listed(text) for number in between(option, part))
