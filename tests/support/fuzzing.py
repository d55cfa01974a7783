"""A fuzz target: what it does with bytes, its corpus, and a fixed series of mutations of it for `make test`.

`make fuzz` runs the same targets under atheris for as long as it is told to (tests/fuzz/run.py).
"""

from __future__ import annotations

import ast
import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "fuzz"
CORPUS = FOLDER / "corpus"
CRASHES = FOLDER / "crashes"
WORDS = FOLDER / "words"

_NUMBERS = (
    b"\x00", b"\xff", b"\x7f", b"\x80", b"\x00\x00", b"\xff\xff", b"\x7f\xff", b"\x80\x00", b"\x00\x00\x00\x00",
    b"\x00\x00\x00\x04", b"\x00\x00\x00\x05", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00",
    b"\x3f\xff\xff\xff", b"\x00\x01\x00\x00", b"\x00\x00\x75\x30",
)  # fmt: skip


class Crash(AssertionError):
    """What a target did wrong with an input, with the input itself."""


@dataclass(frozen=True, slots=True)
class Target:
    """`run` raises on what must not be; anything that it returns from is fine."""

    name: str
    run: Callable[[bytes], object]
    longest: int = 4096

    @property
    def corpus(self) -> Path:
        return CORPUS / self.name

    @property
    def words(self) -> Path:
        """What inputs are made of, one a line as libFuzzer reads it: they are put in here and there."""
        return WORDS / f"{self.name}.dict"

    def seeds(self) -> list[bytes]:
        """The corpus, the shortest first: always in the same order."""
        paths = [*self.corpus.glob("*"), *CRASHES.glob(f"{self.name}-*")]
        found = {path.read_bytes() for path in paths if not path.name.startswith(".")}
        return sorted(found, key=lambda seed: (len(seed), seed))

    def check(self, data: bytes) -> None:
        """Runs one input. Raises Crash."""
        try:
            self.run(data)
        except Exception as error:
            raise Crash(f"{self.name}: {type(error).__name__}: {error}\ninput: {data!r}") from error

    def replay(self, mutations: int) -> None:
        """The whole corpus, then so many mutations of it, the same ones in each run. Raises Crash."""
        seeds = self.seeds()
        assert seeds, f"there is no corpus in {self.corpus}"
        for seed in seeds:
            self.check(seed)
        for data in self.mutated(seeds, mutations):
            self.check(data)

    def digest(self, mutations: int) -> str:
        """Of all that `run` returns for the corpus and so many mutations: equal for equal behaviour."""
        seeds, digest = self.seeds(), hashlib.sha256()
        for data in (*seeds, *self.mutated(seeds, mutations, salt="digest")):
            digest.update(repr(self.run(data)).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def mutated(self, seeds: list[bytes], count: int, salt: str = "") -> Iterator[bytes]:
        chance = random.Random(f"{self.name}{salt}")
        words = read_words(self.words)
        for _ in range(count):
            data = bytearray(chance.choice(seeds))
            for _ in range(chance.choice((1, 1, 2, 3, 6))):
                _mutate(data, chance, seeds, words)
            yield bytes(data[: self.longest])


def read_words(path: Path) -> list[bytes]:
    """A dictionary of libFuzzer: each line a word in quotes."""
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return [ast.literal_eval("b" + line) for line in lines if line and not line.startswith("#")]


def _mutate(data: bytearray, chance: random.Random, seeds: list[bytes], words: list[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    span = chance.choice((1, 1, 2, 4, 8, 32))
    match chance.randrange(8 if words else 7):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(data):
            data[at] = chance.randrange(256)
        case 2:
            del data[at : at + span]
        case 3:
            data[at:at] = chance.randbytes(span)
        case 4:
            data[at:at] = data[at : at + span] * chance.choice((1, 2, 9))
        case 5:
            number = chance.choice(_NUMBERS)
            data[at : at + len(number)] = number
        case 6:
            other = chance.choice(seeds)
            start = chance.randrange(len(other) + 1)
            data[at:at] = other[start : start + chance.choice((4, 16, 64, 256))]
        case _ if words:
            data[at:at] = chance.choice(words)
