"""What every engine does alike: queue, retries, and news of each piece of work."""

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

# a function of a module: of what is to be done, of what the pieces share, and of a way to tell how far it is
Work = Callable[[Any, Any, Callable[[int], None]], Any]

ATTEMPTS = 3  # a piece of work whose process has died as often is given up


class LostError(Exception):
    """The process of a piece of work has died."""


@dataclass(frozen=True)
class News:
    """What an engine tells of one piece of work.

    Attributes:
        index: which piece.
        kind: it has ``begun``; it has told its ``progress``; it has ``ended``; or it is ``lost``: its process has died
            :data:`ATTEMPTS` times.
        value: of progress, what it told; of the end, what the work gave.
    """

    index: int
    kind: Literal["begun", "progress", "ended", "lost"]
    value: Any = None


class Engine(ABC):
    """Does pieces of work in processes of their own, as many at a time as there is room for.

    Used as a context: at its end, however it comes, no process goes on.

    Attributes:
        patience: seconds after which the processes of an engine that was killed have ended too.
    """

    patience: float

    def do(self, work: Work, pieces: Sequence[tuple[Any, Any]]) -> Iterator[News | None]:
        """Do all pieces of work, the first ones first; give news, or None about twice a second where there is none.

        A piece whose process dies is done again, up to :data:`ATTEMPTS` times: it must go on where it was.

        Args:
            work: what to do; an error that it raises is raised here.
            pieces: for each, what is handed to ``work``, and what :meth:`share` has given.
        """
        waiting = deque(range(len(pieces)))
        losses: Counter[int] = Counter()
        running: dict[Hashable, int] = {}
        while waiting or running:
            while waiting and len(running) < self.room():
                index = waiting.popleft()
                running[self.start(index, work, *pieces[index])] = index
                yield News(index, "begun")
            ended = self.wait([*running], 0.5)
            for index, value in self.told().items():
                yield News(index, "progress", value)
            for handle in ended:
                index = running.pop(handle)
                try:
                    result = self.result(handle)
                except LostError:
                    losses[index] += 1
                    if losses[index] < ATTEMPTS:
                        waiting.appendleft(index)
                    else:
                        yield News(index, "lost")
                else:
                    yield News(index, "ended", result)
            if not ended:
                yield None

    @abstractmethod
    def share(self, value: Any) -> Any:
        """Keep a value, mostly NumPy arrays, where every process reads it without a copy; return what names it."""

    @abstractmethod
    def room(self) -> int:
        """Return how many pieces can be at work at a time, at least 1."""

    @abstractmethod
    def start(self, index: int, work: Work, argument: Any, shared: Any) -> Hashable:
        """Begin a piece of work and return what it is known by from now on."""

    @abstractmethod
    def wait(self, handles: Sequence[Any], seconds: float) -> list[Hashable]:
        """Return which of them have ended, as soon as one has, or after some seconds."""

    @abstractmethod
    def told(self) -> Mapping[int, int]:
        """Return what pieces have told of their progress since the last call."""

    @abstractmethod
    def result(self, handle: Any) -> Any:
        """Return what a piece of work gave, raise what it raised, or a :class:`LostError`."""

    @abstractmethod
    def close(self) -> None:
        """End all processes."""

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
