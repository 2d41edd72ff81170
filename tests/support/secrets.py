"""Secrets that a run uses, and where they turn up: as they are, and as encodings that anybody can undo."""

import base64
import html
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MIN_LENGTH = 12  # shorter ones would be found by chance


class Secrets:
    """`add` what nobody may see, `note` every output; `leaks` says which secret stood where."""

    def __init__(self) -> None:
        self._secrets: dict[str, bytes] = {}
        self._outputs: list[tuple[str, bytes, str]] = []

    def add(self, name: str, value: str) -> str:
        assert len(value) >= MIN_LENGTH, f"{name} is too short to look for"
        self._secrets[name] = value.encode()
        return value

    def note(self, where: str, *outputs: object, but: str = "") -> None:
        """`but` names the one secret that this output is there to show."""
        for output in outputs:
            data = output if isinstance(output, bytes) else str(output).encode()
            self._outputs.append((where, data, but))

    def __len__(self) -> int:
        return len(self._secrets)

    @property
    def bytes_noted(self) -> int:
        return sum(len(data) for _, data, _ in self._outputs)

    def leaks(self) -> list[str]:
        forms = {name: list(forms_of(secret)) for name, secret in self._secrets.items()}
        found = set()
        for where, data, allowed in self._outputs:
            for name, shapes in forms.items():
                form = next((form for form, shape in shapes if shape in data), None)
                if form is not None and name != allowed:
                    found.add(f"{name} ({form}) in {where}")
        return sorted(found)


def forms_of(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """What to look for. Base64 of a text that holds the secret depends on what stands before it, in three ways."""
    text = secret.decode()
    yield "as it is", secret
    yield "in a URL", quote(text, safe="").encode()
    yield "in a form", quote_plus(text).encode()
    yield "in HTML", html.escape(text).encode()
    yield "as repr", repr(text)[1:-1].encode()
    yield "in hex", secret.hex().encode()
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + secret)
        # the first and last characters hold bits of neighbours
        middle = encoded[4 if before else 0 : (len(encoded) - 4) if (before + len(secret)) % 3 else len(encoded)]
        yield f"in base64, {before} bytes later", middle
        yield f"in base64 for URLs, {before} bytes later", middle.replace(b"+", b"-").replace(b"/", b"_")
