"""What is minimized at an exit: the loss of its outputs for each sample."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812

if TYPE_CHECKING:
    from skearlyexit.training._base import TrainingStrategy

#: Error, in standard deviations of a target, up to which the Huber loss is quadratic.
HUBER_DELTA = 0.5


class Criterion(metaclass=ABCMeta):
    """Base class of losses of the outputs of an exit."""

    def obstacle(self, training: TrainingStrategy) -> str:
        """Reason why a training strategy does not support this loss. Empty if it does."""
        return ""

    @abstractmethod
    def losses(self, outputs: torch.Tensor, y: torch.Tensor, *, training: bool) -> torch.Tensor:
        """Compute the loss of each sample.

        Parameters
        ----------
        outputs : Tensor of shape (n, n_outputs)
            Outputs of the last layer.
        y : Tensor of shape (n,) or (n, n_targets)
            Classes, as indices, or standardized targets.
        training : bool
            Whether the loss is that of the training rather than of an evaluation.

        Returns
        -------
        losses : Tensor of shape (n,)
        """

    @abstractmethod
    def n_correct(self, stacked: torch.Tensor, y: torch.Tensor) -> torch.Tensor | None:
        """Number of correct predictions of each exit, shape (n_exits,). None without classes."""

    @abstractmethod
    def divergences(
        self,
        stacked: torch.Tensor,
        of_teachers: Callable[[torch.Tensor], torch.Tensor],
        temperature: float,
    ) -> torch.Tensor:
        """Compute how far each exit but the last is from its teacher.

        Parameters
        ----------
        stacked : Tensor of shape (n_exits, n, n_outputs)
            Outputs of the last layers of all exits.
        of_teachers : callable
            Function from values of all exits to those of the teacher of each exit but the last, or
            their mean if there are several.
        temperature : float
            Divisor of logits.

        Returns
        -------
        divergences : Tensor of shape (n_exits - 1, n)
        """


@dataclass(frozen=True)
class CrossEntropy(Criterion):
    """Cross-entropy of logits.

    Attributes
    ----------
    label_smoothing : float, default=0.0
        Share of the target that is distributed equally over all classes, in training only.
    """

    label_smoothing: float = 0.0

    def losses(self, outputs: torch.Tensor, y: torch.Tensor, *, training: bool) -> torch.Tensor:
        smoothing = self.label_smoothing if training else 0.0
        return F.cross_entropy(outputs, y, reduction="none", label_smoothing=smoothing)

    def n_correct(self, stacked: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return _n_correct(stacked, y)

    def divergences(
        self,
        stacked: torch.Tensor,
        of_teachers: Callable[[torch.Tensor], torch.Tensor],
        temperature: float,
    ) -> torch.Tensor:
        """Kullback-Leibler divergence from the teacher."""
        logs = F.log_softmax(stacked / temperature, dim=2)
        teaching = logs.detach()
        probabilities = teaching.exp()
        # KL(teacher || exit), expanded: the teacher's own term and the cross term. Both are linear
        # in what is averaged over several teachers.
        own = of_teachers((probabilities * teaching).sum(dim=2))
        return own - (of_teachers(probabilities) * logs[:-1]).sum(dim=2)


@dataclass(frozen=True)
class SquaredHinge(Criterion):
    """Sum over the classes of the squared hinge loss of the outputs, which are margins.

    Each output is that of a binary problem, one class against the others, also of two classes. In
    expectation, the loss is lowest at twice the probability of the class minus 1.

    Attributes
    ----------
    label_smoothing : float, default=0.0
        Share of the target that is distributed equally over all classes, in training only.
    """

    label_smoothing: float = 0.0

    def obstacle(self, training: TrainingStrategy) -> str:
        return training.obstacle_to_hinge()

    def losses(self, outputs: torch.Tensor, y: torch.Tensor, *, training: bool) -> torch.Tensor:
        smoothing = self.label_smoothing if training else 0.0
        n_classes = outputs.shape[1]
        share = F.one_hot(y, n_classes).to(outputs) * (1 - smoothing) + smoothing / n_classes
        of_class, of_others = F.relu(1 - outputs).square(), F.relu(1 + outputs).square()
        return (share * of_class + (1 - share) * of_others).sum(dim=1)

    def n_correct(self, stacked: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return _n_correct(stacked, y)

    def divergences(
        self,
        stacked: torch.Tensor,
        of_teachers: Callable[[torch.Tensor], torch.Tensor],
        temperature: float,
    ) -> torch.Tensor:
        """Squared difference from the margins of the teacher."""
        return _squared_differences(stacked, of_teachers).sum(dim=2)


#: Losses of classifiers by name. They are called with the parameter `label_smoothing`.
CLASSIFICATION_LOSSES: dict[str, Callable[[float], Criterion]] = {
    "log_loss": CrossEntropy,
    "squared_hinge": SquaredHinge,
}


def _n_correct(stacked: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (stacked.argmax(dim=2) == y).sum(dim=1)


def _squared_differences(
    stacked: torch.Tensor, of_teachers: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Mean squared difference of outputs from those of the teachers.

    The shape is (n_exits - 1, n, n_outputs). The square is expanded, as for probabilities, into
    terms that are linear in what is averaged over several teachers.
    """
    values = stacked.detach()
    exits = stacked[:-1]
    return of_teachers(values.square()) - 2 * of_teachers(values) * exits + exits.square()


@dataclass(frozen=True)
class RegressionCriterion(Criterion):
    """Mean over the targets of a loss of the error.

    Attributes
    ----------
    loss : {"squared_error", "absolute_error", "huber", "quantile"}
        As in `EarlyExitRegressor`.
    quantile : float
        Quantile that is estimated with ``"quantile"``.
    """

    loss: str
    quantile: float

    @property
    def is_squared(self) -> bool:
        """Whether the loss is the squared error, whose root is an error."""
        return self.loss == "squared_error"

    def losses(self, outputs: torch.Tensor, y: torch.Tensor, *, training: bool) -> torch.Tensor:
        return REGRESSION_LOSSES[self.loss](y - outputs, self.quantile).mean(dim=1)

    def n_correct(self, stacked: torch.Tensor, y: torch.Tensor) -> None:
        return None

    def divergences(
        self,
        stacked: torch.Tensor,
        of_teachers: Callable[[torch.Tensor], torch.Tensor],
        temperature: float,
    ) -> torch.Tensor:
        """Squared difference from the teacher."""
        return _squared_differences(stacked, of_teachers).mean(dim=2)


def _squared(error: torch.Tensor, quantile: float) -> torch.Tensor:
    return error.square()


def _absolute(error: torch.Tensor, quantile: float) -> torch.Tensor:
    return error.abs()


def _huber(error: torch.Tensor, quantile: float) -> torch.Tensor:
    size = error.abs()
    return torch.where(
        size <= HUBER_DELTA, error.square() / 2, HUBER_DELTA * (size - HUBER_DELTA / 2)
    )


def _pinball(error: torch.Tensor, quantile: float) -> torch.Tensor:
    return torch.maximum(quantile * error, (quantile - 1) * error)


#: Losses of an error, the true value minus the predicted one, by name.
REGRESSION_LOSSES: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "squared_error": _squared,
    "absolute_error": _absolute,
    "huber": _huber,
    "quantile": _pinball,
}
