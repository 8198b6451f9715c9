"""Lists of names with numbers that have gaps, written to be read."""


def numbered(text: str) -> dict[int, str]:
    """Names by number, from text such as ``1 person, 2 bicycle``; line breaks count as spaces."""
    items = (item.split() for item in text.split(","))
    return {int(number): " ".join(words) for number, *words in items}
