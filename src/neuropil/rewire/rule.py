"""What a prune rule and a growth rule are, and how rules are put together."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from neuropil.connect.block_grid import IntArray
from neuropil.rewire.pool import EMPTY, Pool
from neuropil.rewire.select import Scores, Strip, largest_cells, largest_in_rows, smallest
from neuropil.rewire.site import Site


class Rule:
    """How much a block of connections is worth: the least worthy ones go, the worthiest come.

    A rule that prunes gives :meth:`live`, one that grows :meth:`grid`; both give one score a block. Which blocks are
    taken follows from the scores; a rule that chooses otherwise overrides :meth:`drop` or :meth:`grow`.

    Attributes:
        can_prune, can_grow: what the rule can be used for.
        needs: what must be recorded for it, of :data:`neuropil.rewire.record.NEEDS`.
        window: in how many of the latest steps.
        needs_progress: whether its choice depends on how much of training is done.
    """

    can_prune: ClassVar[bool] = False
    can_grow: ClassVar[bool] = False
    needs: frozenset[str] = frozenset()
    window: int = 1
    needs_progress: bool = False

    def live(self, site: Site) -> Scores:
        """Return the score of each live block, float32 ``[n_blocks]``."""
        return site.live_of(self.grid(site))

    def grid(self, site: Site) -> Strip:
        """Return a function that gives the scores of all cells in a slice of rows, float32 ``[rows, columns]``."""
        raise NotImplementedError(f"{type(self).__name__} does not score connections that are not there")

    def drop(self, site: Site, n: int, eligible: NDArray[np.bool_]) -> IntArray:
        """Return the numbers of the n live blocks that go, of those that may."""
        scores = self.live(site)
        if eligible.all():
            return smallest(scores, n, site.generator)
        candidates = np.flatnonzero(eligible)
        return candidates[smallest(scores[candidates], n, site.generator)]

    def grow(self, site: Site, pool: Pool, n: int) -> IntArray:
        """Return the n cells of a pool that come, ascending."""
        return largest_cells(self.grid(site), pool, n, site.generator)

    def grow_in_rows(self, site: Site, pool: Pool, quotas: IntArray) -> IntArray:
        """Return, for each row of the grid, as many cells of a pool as its quota says, ascending."""
        return largest_in_rows(self.grid(site), pool, quotas, site.generator)


@dataclass(frozen=True)
class Mixture(Rule):
    """Let several rules each choose a share, one after the other, of what those before have left.

    Args:
        parts: pairs of a rule and its share; shares are positive and count in proportion to their sum.

    Raises:
        ValueError: there is no part, or a share is not positive.

    Reference:
        G2GNet's prune rule ``three`` (arXiv 2508.14140, after the laboratory's public spiking code): a third each by
        magnitude, at random, and by lowest Hebbian correlation, in this order.

    Example:
        >>> from neuropil.rewire import Hebbian, Magnitude, Random
        >>> three = Mixture(((Magnitude(), 1), (Random(), 1), (Hebbian(), 1)))
        >>> sorted(three.needs)
        ['post', 'pre']
    """

    parts: tuple[tuple[Rule, float], ...]

    def __post_init__(self) -> None:
        if not self.parts or min(share for _, share in self.parts) <= 0:
            raise ValueError(f"Mixture: parts must be pairs of a rule and a share above 0, got {self.parts!r}")
        rules = [rule for rule, _ in self.parts]
        for name, value in {
            "can_prune": all(rule.can_prune for rule in rules),
            "can_grow": all(rule.can_grow for rule in rules),
            "needs": frozenset().union(*(rule.needs for rule in rules)),
            "window": max(rule.window for rule in rules),
            "needs_progress": any(rule.needs_progress for rule in rules),
        }.items():
            object.__setattr__(self, name, value)

    def live(self, site: Site) -> Scores:
        """Return the scores of the first rule, for where one number a block is wanted."""
        return self._rules()[0].live(site)

    def drop(self, site: Site, n: int, eligible: NDArray[np.bool_]) -> IntArray:
        """Return the numbers of the n live blocks that go; see :meth:`Rule.drop`."""
        left, gone = eligible.copy(), []
        for rule, count in zip(self._rules(), self._counts(np.array([n])), strict=True):
            gone.append(rule.drop(site, int(count[0]), left))
            left[gone[-1]] = False
        return np.sort(np.concatenate(gone))

    def grow(self, site: Site, pool: Pool, n: int) -> IntArray:
        """Return the n cells that come; see :meth:`Rule.grow`."""
        come = EMPTY
        for rule, count in zip(self._rules(), self._counts(np.array([n])), strict=True):
            come = np.sort(np.concatenate([come, rule.grow(site, pool.without(come), int(count[0]))]))
        return come

    def grow_in_rows(self, site: Site, pool: Pool, quotas: IntArray) -> IntArray:
        """Return the cells that come in each row; see :meth:`Rule.grow_in_rows`."""
        come = EMPTY
        for rule, counts in zip(self._rules(), self._counts(quotas), strict=True):
            come = np.sort(np.concatenate([come, rule.grow_in_rows(site, pool.without(come), counts)]))
        return come

    def _rules(self) -> list[Rule]:
        return [rule for rule, _ in self.parts]

    def _counts(self, total: IntArray) -> list[IntArray]:
        """Share numbers out among the rules so that nothing is lost by rounding."""
        shares, left, counts = [share for _, share in self.parts], total, []
        for i, share in enumerate(shares):
            counts.append(np.rint(left * (share / sum(shares[i:]))).astype(np.int64))
            left = left - counts[-1]
        return counts


@dataclass(frozen=True)
class Sampled(Rule):
    """Draw by chance, each block with a probability in proportion to score^temperature: soft in place of hard choice.

    What stays (when pruning) or comes (when growing) is drawn without replacement. This equals taking the largest of
    temperature · log(score) + G with G from a Gumbel distribution.

    Args:
        rule: gives the scores, at least 0; how it would choose by them does not matter.
        temperature: at the start and at the end of training, linear in between; higher is harder.

    Raises:
        ValueError: a temperature is not positive.

    Reference:
        CHTs, arXiv 2501.19107: pruning ∝ |w|^T with T from 1 to 3, growth ∝ the score.
    """

    rule: Rule
    temperature: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if len(self.temperature) != 2 or min(self.temperature) <= 0:
            raise ValueError(
                f"Sampled: temperature must be two numbers above 0, at start and end, got {self.temperature!r}"
            )
        for name in ("can_prune", "can_grow", "needs", "window"):
            object.__setattr__(self, name, getattr(self.rule, name))
        softens = self.temperature[0] != self.temperature[1]
        object.__setattr__(self, "needs_progress", softens or self.rule.needs_progress)

    def live(self, site: Site) -> Scores:
        """Return temperature · log(score) + G of each live block."""
        return self._soften(self.rule.live(site), site)

    def grid(self, site: Site) -> Strip:
        """Return temperature · log(score) + G of all cells in a slice of rows."""
        strip = self.rule.grid(site)
        return lambda rows: self._soften(strip(rows), site)

    def _soften(self, scores: Scores, site: Site) -> Scores:
        start, end = self.temperature
        temperature = start + (end - start) * site.progress
        uniform = torch.rand(scores.shape, generator=site.generator).clamp_(min=1e-20).numpy()
        softened: Scores = temperature * np.log(np.maximum(scores, 1e-30)) - np.log(-np.log(uniform))
        return softened
