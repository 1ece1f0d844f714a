"""The model, warmed up and asked row by row."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from perennial.errors import UserError
from perennial.inputs import feed
from perennial.model import open_model
from perennial.serving.artifacts import Artifacts

Row = dict[str, Any]


class NoAnswerError(Exception):
    """The place of a row that the model cannot tell anything about."""


class Predictor:
    """An open model that has given its training example the answer it had in training.

    Raises:
        UserError: when the model cannot be opened, or answers otherwise here.
    """

    def __init__(self, artifacts: Artifacts) -> None:
        self.contract, self.profile, self.version = artifacts.contract, artifacts.profile, artifacts.version
        self._inputs, self._classes = self.profile["inputs"], self.profile["classes"]
        self._threshold = self.profile["threshold"]
        example = self.profile["example"]
        try:
            self._session = open_model(artifacts.model)
            self._outputs = [self._session.get_outputs()[-1].name]
            (found,) = self.run([example["row"]])
        except Exception as error:  # onnxruntime raises whatever is wrong with the file
            raise UserError(f"model.onnx cannot be used: {error}", "train it again with `make run`") from None
        if not all(abs(a - b) <= 1e-5 * max(1.0, abs(b)) for a, b in zip(found, example["answer"], strict=True)):
            problem = f"the example row gives {found} instead of {example['answer']}"
            raise UserError(problem, "train it again on a machine like this one")

    def run(self, rows: Sequence[Row]) -> list[list[float]]:
        """The model's own output: probabilities in the order of the classes, or one value."""
        answers: list[list[float]] = self._session.run(self._outputs, feed(rows, self._inputs))[0].tolist()
        return answers

    def predict(self, rows: Sequence[Row]) -> list[Row]:
        """For each row `{label, probabilities}`, or `{value}` for a regression.

        Raises:
            NoAnswerError: when numbers so large that the model's own sums overflow leave it without an answer.
        """
        answers, classes = self.run(rows), self._classes
        for place, answer in enumerate(answers):
            if not all(map(isfinite, answer)):
                raise NoAnswerError(place)
        if not classes:
            return [{"value": value} for (value,) in answers]
        return [{"label": self.label(answer), "probabilities": dict(zip(classes, answer))} for answer in answers]  # noqa: B905

    def label(self, answer: list[float]) -> str:
        """The positive class from the threshold on; the likeliest of more than two."""
        place = int(answer[1] >= self._threshold) if self._threshold is not None else answer.index(max(answer))
        return str(self._classes[place])

    def verdict(self, answer: Row) -> tuple[int, float]:
        """What a label is judged by: the place of the predicted class (0 for a value), and the figure behind it."""
        if not self._classes:
            return 0, answer["value"]
        shown = self._classes[1] if self._threshold is not None else answer["label"]
        return self._classes.index(answer["label"]), answer["probabilities"][shown]

    def binned(self, answer: Row) -> Any:
        """What drift of the answers is measured by: positive probability, class or value."""
        if self._threshold is not None:
            return answer["probabilities"][self._classes[1]]
        return answer["label"] if self._classes else answer["value"]
