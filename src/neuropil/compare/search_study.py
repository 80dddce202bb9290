"""The study of a search: which values come next, in a file that several processes share.

Optuna (extra ``search``) proposes values and stops trials that fall behind. What it does not do is done here: a budget
that is exact however many processes work, and trials of processes that were killed, which are taken up again.
"""

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from neuropil.compare.search_space import Choice, Span
from neuropil.compare.sweeps import name_values
from neuropil.randomness import derived_seed
from neuropil.train.whole_files import hold

if TYPE_CHECKING:
    import optuna

Pruner = Literal["median", "halving", "none"]

_JOURNAL = "study.journal"
_MOST_ATTEMPTS = 3  # to do one trial: it may be what kills its process
_STARTUP = 4  # one of so many trials is never stopped early


@dataclass
class Proposal:
    """Values to try in one trial.

    Attributes:
        arm: whose.
        values: by setting.
        trial: Optuna's.
    """

    arm: str
    values: dict[str, Any]
    trial: "optuna.trial.Trial"


@dataclass(frozen=True)
class Ended:
    """A trial that has ended.

    Attributes:
        number: within its arm.
        state: ``complete``, ``pruned`` or ``failed``.
        values: by setting.
        accuracy: on the validation split after its last epoch; None if it failed.
        epochs: how many it had.
        reason: why it failed.
    """

    number: int
    state: Literal["complete", "pruned", "failed"]
    values: dict[str, Any]
    accuracy: float | None
    epochs: int
    reason: str | None = None


class Study:
    """The trials of all arms of a search, kept in its folder.

    Args:
        folder: of the search.
        trials: of each arm.
        epochs: of each trial.
        seed: of what is proposed. Arms begin with the same values.
        pruner: what stops a trial: ``median`` (below the median of earlier ones after as many epochs), ``halving``
            (not among the best quarter at 1, 4, 16, … epochs), or ``none``.

    Raises:
        ValueError: Optuna is not installed, or a number is out of range.

    Reference:
        Optuna, arXiv 1907.10902; the tree-structured Parzen estimator, Bergstra et al., NeurIPS 2011; successive
        halving, arXiv 1810.05934.
    """

    def __init__(self, folder: Path, *, trials: int, epochs: int, seed: int, pruner: Pruner) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError as error:
            raise ValueError("search needs optuna; try pip install 'neuropil[search]'") from error
        self._folder, self._trials, self._seed = folder, trials, seed
        folder.mkdir(parents=True, exist_ok=True)
        lock: Any = None if sys.platform == "win32" else _JournalLock(folder / _JOURNAL)
        backend = JournalFileBackend(str(folder / _JOURNAL), lock_obj=lock)
        self._storage = optuna.storages.JournalStorage(backend)
        # a cosine schedule brings slow starters forward late: nothing is stopped in the first third
        first, warm_up = max(1, trials // _STARTUP), epochs // 3
        pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
            "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=first, n_warmup_steps=warm_up),
            "halving": optuna.pruners.SuccessiveHalvingPruner,
            "none": optuna.pruners.NopPruner,
        }
        self._pruner = pruners[pruner]()
        self._worker = f"{uuid.uuid4().hex}.lock"
        self._alive = contextlib.ExitStack()
        self._verbosity = optuna.logging.get_verbosity()

    def __enter__(self) -> Self:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._alive.enter_context(locked(self._folder / "workers" / self._worker))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        import optuna

        self._alive.close()
        (self._folder / "workers" / self._worker).unlink(missing_ok=True)
        optuna.logging.set_verbosity(self._verbosity)

    def propose(self, spaces: Mapping[str, Mapping[str, Choice]]) -> Proposal | None:
        """Return what to try next, of the arm that has had fewest trials; wait while others do the last ones.

        Args:
            spaces: what each arm may choose from.

        Returns:
            A proposal, to be ended by one of :meth:`complete`, :meth:`prune` and :meth:`fail`; None once every arm has
            had all its trials.
        """
        while True:
            with locked(self._folder / "budget.lock"):
                counts = {arm: self._count(arm) for arm in spaces}
                open_ = [arm for arm in spaces if counts[arm][0] < self._trials]
                if open_:
                    arm = min(open_, key=lambda arm: counts[arm][0])
                    return self._ask(arm, spaces[arm], counts[arm][0])
                if not any(running for _, running in counts.values()):
                    return None
            time.sleep(0.2)

    def _count(self, arm: str) -> tuple[int, int]:
        """Return how many trials an arm has had or has, and how many are at work; those of the dead go back in line."""
        from optuna.trial import TrialState

        study = self._open(arm)
        begun = running = 0
        for trial in study.get_trials(deepcopy=False):
            attempt = int(trial.user_attrs.get("attempt", 1))
            if trial.state is TrialState.RUNNING:
                if self._is_alive(trial.user_attrs.get("worker")):
                    running += 1
                    begun += 1
                elif attempt >= _MOST_ATTEMPTS:
                    reason = f"its process was killed {attempt} times"
                    self._storage.set_trial_user_attr(trial._trial_id, "reason", reason)
                    study.tell(trial.number, state=TrialState.FAIL)
                    begun += 1
                else:
                    study.tell(trial.number, state=TrialState.FAIL)
                    study.enqueue_trial(trial.params, user_attrs={"attempt": attempt + 1})
            elif trial.state is not TrialState.WAITING:
                begun += _counts(trial)
        return begun, running

    def _ask(self, arm: str, space: Mapping[str, Choice], begun: int) -> Proposal:
        import optuna

        study = self._open(arm)
        # anew for each trial: it does not matter who proposes it, and what was interrupted before
        seed = derived_seed(self._seed, "search", begun) % 2**32
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        trial = study.ask({key: _distribution(choice) for key, choice in space.items()})
        trial.set_user_attr("worker", self._worker)
        return Proposal(arm, _values(space, trial.params), trial)

    def reports_well(self, proposal: Proposal, epoch: int, accuracy: float) -> bool:
        """Note the validation accuracy of a trial after an epoch; return whether it should go on."""
        proposal.trial.report(accuracy, epoch)
        return not proposal.trial.should_prune()

    def complete(self, proposal: Proposal, accuracy: float) -> None:
        """End a trial that had all its epochs, or diverged."""
        self._open(proposal.arm).tell(proposal.trial, accuracy)

    def prune(self, proposal: Proposal) -> None:
        """End a trial that was stopped."""
        from optuna.trial import TrialState

        self._open(proposal.arm).tell(proposal.trial, state=TrialState.PRUNED)

    def fail(self, proposal: Proposal, reason: str) -> None:
        """End a trial that failed; it counts, for it would fail again."""
        from optuna.trial import TrialState

        proposal.trial.set_user_attr("reason", reason)
        self._open(proposal.arm).tell(proposal.trial, state=TrialState.FAIL)

    def ended(self, arm: str, space: Mapping[str, Choice]) -> list[Ended]:
        """Return the trials of an arm that have ended, in their order."""
        from optuna.trial import TrialState

        words: dict[Any, Any] = {
            TrialState.COMPLETE: "complete",
            TrialState.PRUNED: "pruned",
            TrialState.FAIL: "failed",
        }
        return [
            Ended(
                trial.number,
                words[trial.state],
                _values(space, trial.params),
                trial.value,
                trial.last_step or 0,
                trial.user_attrs.get("reason"),
            )
            for trial in self._open(arm).get_trials(deepcopy=False)
            if trial.state in words and _counts(trial)
        ]

    def _open(self, arm: str) -> "optuna.Study":
        import optuna

        return optuna.create_study(
            study_name=arm, storage=self._storage, direction="maximize", pruner=self._pruner, load_if_exists=True
        )

    def _is_alive(self, worker: str | None) -> bool:
        path = self._folder / "workers" / str(worker)
        if worker is None or not path.exists():
            return False
        try:
            with locked(path, wait=False):
                return worker == self._worker
        except BlockingIOError:
            return True


def _counts(trial: "optuna.trial.FrozenTrial") -> bool:
    """Say whether a trial that has ended is part of the budget: one whose process was killed is not."""
    from optuna.trial import TrialState

    return trial.state is not TrialState.FAIL or "reason" in trial.user_attrs


def _distribution(choice: Choice) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(choice, Span):
        return CategoricalDistribution([*name_values("", choice)])
    if choice.whole:
        return IntDistribution(int(choice.low), int(choice.high), log=choice.log)
    return FloatDistribution(choice.low, choice.high, log=choice.log)


def _values(space: Mapping[str, Choice], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that Optuna's parameters stand for."""
    values: dict[str, Any] = {}
    for key, choice in space.items():
        if key in params:  # a trial that was killed at once has none
            drawn = params[key]
            values[key] = choice.rounded(drawn) if isinstance(choice, Span) else name_values("", choice)[drawn]
    return values


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock on a file, which is made, while the block runs; it goes with its process.

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with hold(path, BlockingIOError(f"{path} is held by another process"), patience=-1 if wait else 0):
        yield


class _JournalLock:
    """A lock on Optuna's journal that a killed process does not leave behind, nor half a line with it."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._held = contextlib.ExitStack()

    def acquire(self) -> bool:
        self._held.enter_context(locked(self._journal.with_suffix(".journal.lock")))
        with contextlib.suppress(FileNotFoundError), self._journal.open("r+b") as file:
            if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._held.close()
