"""What becomes of values that their Arrow type cannot hold.

Owns the policy of one column in one result, and the count of what it changed.  Which values those are is the readers' business.
"""

from __future__ import annotations

import numpy as np

from procflow_export.model.types import OnInvalid
from procflow_export.sources.arrays import MisfitError
from procflow_export.sources.postgres.decoding.fields import Mask


class Misfits:
    """The policy of one column.

    Attributes:
        on_invalid: What becomes of values that do not fit.
        changed_count: How many values were changed so far.
    """

    def __init__(self, on_invalid: OnInvalid) -> None:
        self.on_invalid = on_invalid
        self.changed_count = 0

    def settle(
        self, misfits: Mask, is_null: Mask | None, *, hopeless: Mask | None = None, reason: str = ""
    ) -> Mask | None:
        """Return which values are NULL now: those that were, and what the policy makes NULL.

        Where the policy is to take the nearest value, the caller has put it there.

        Args:
            misfits: Which values do not fit; what it says of a NULL does not count.
            is_null: Which values are NULL; None if none is.
            hopeless: Those of them that are near to nothing; None if there are none.
            reason: Why they do not fit.

        Raises:
            MisfitError: If there is one that must not be changed, or cannot.
        """
        if is_null is not None:
            misfits = misfits & ~is_null
        if not misfits.any():
            return is_null
        match self.on_invalid:
            case OnInvalid.NULL:
                self.changed_count += int(np.count_nonzero(misfits))
                return misfits if is_null is None else misfits | is_null
            case OnInvalid.CLAMP:
                refused = None if hopeless is None else hopeless & misfits
                if refused is None or not refused.any():
                    self.changed_count += int(np.count_nonzero(misfits))
                    return is_null
            case _:
                refused = misfits
        raise MisfitError(int(np.argmax(refused)), reason)
