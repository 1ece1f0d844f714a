"""The rows on which champion and challenger can be compared: both can read them, and neither has learnt from them."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from perennial.contract import Contract
from perennial.errors import UserError
from perennial.git import yaml_at
from perennial.inputs import encode_target
from perennial.model import answer, open_model
from perennial.params import Params
from perennial.review.champion import Champion
from perennial.review.compare import Answers

if TYPE_CHECKING:
    import pandas as pd

LEAST = 100  # rows below which a comparison says nothing


class NotComparableError(Exception):
    """Why the champion cannot be judged on this hold-out."""


def meet(
    champion: Champion, holdout: "pd.DataFrame", challenger: Answers, params: Params
) -> tuple[NDArray[np.bool_], Answers]:
    """Which rows of the hold-out both are compared on, and the champion's answers there.

    Raises:
        NotComparableError: when the target is another one, a feature is gone from the data, or too few rows are left.
    """
    contract = _contract(champion, params.data)
    rows = _fresh(holdout, champion, contract, params)
    frame = holdout
    if not _readable(contract, params.data):
        frame, known = _read_again(contract, holdout, params)
        rows = rows & known
    if rows.sum() < LEAST or len(np.unique(challenger.target[rows])) < 2:
        raise NotComparableError(f"only {int(rows.sum())} hold-out rows are new to the champion")
    target = encode_target(holdout[params.data.target.name], params.data)[rows]
    answers = answer(open_model(champion.model), frame[rows], contract)
    return rows, Answers(target, answers, champion.profile["threshold"])


def _contract(champion: Champion, ours: Contract) -> Contract:
    try:
        theirs = Contract.model_validate(champion.profile["contract"])
    except (ValidationError, KeyError):
        raise NotComparableError("its contract was written for other code") from None
    if (theirs.target.name, theirs.task, theirs.target.classes) != (ours.target.name, ours.task, ours.target.classes):
        raise NotComparableError(f"it predicts {_described(theirs)}, this one {_described(ours)}")
    return theirs


def _described(contract: Contract) -> str:
    kind = " or ".join(contract.target.classes) or "a number"
    return f"{contract.target.name} ({kind})"


def _readable(theirs: Contract, ours: Contract) -> bool:
    return all(name in ours.features and ours.features[name].type == f.type for name, f in theirs.features.items())


def _fresh(holdout: "pd.DataFrame", champion: Champion, theirs: Contract, params: Params) -> NDArray[np.bool_]:
    """Hold-out rows that the champion has not learnt from: later ones, or those its own split kept."""
    import pandas as pd

    from perennial.pipeline.split import hashed

    ours = params.data
    last = champion.profile["trained_on"]["time"]
    if last:
        if not ours.time or not theirs.time or ours.time.name != theirs.time.name:
            raise NotComparableError(
                f"data.time no longer names {theirs.time and theirs.time.name}, by which it was split"
            )
        return (holdout[ours.time.name] > pd.Timestamp(last[1])).to_numpy()
    if theirs.id != ours.id or (not theirs.id and theirs.columns != ours.columns):
        raise NotComparableError(
            "which rows it has learnt from cannot be told: the columns that identify a row changed"
        )
    share = yaml_at(champion.commit, "params.yaml")["split"]["holdout"]
    return hashed(holdout, ours, share).to_numpy()


def _read_again(theirs: Contract, holdout: "pd.DataFrame", params: Params) -> "tuple[pd.DataFrame, NDArray[np.bool_]]":
    """The hold-out's rows as the champion's contract reads them from the raw data, and which of them it could read.

    A feature that this tree's contract dropped or changed is most often still in the files.
    """
    from perennial.pipeline.prepare import collect

    ours = params.data
    if not ours.key or ours.key != theirs.key:
        raise NotComparableError(
            "its features are not all in this contract, and without an id its rows cannot be found"
        )
    older = theirs.model_copy(update={"raw": ours.raw, "csv": ours.csv, "tolerance": 0.5})
    try:
        frame, _ = collect(older, {})
    except UserError as error:
        raise NotComparableError(f"the data no longer fits its contract: {str(error).splitlines()[0]}") from None
    keys = list(ours.key)
    frame = holdout[keys].merge(frame.drop_duplicates(keys), how="left", on=keys, indicator="_found")
    return frame, (frame["_found"] == "both").to_numpy()
