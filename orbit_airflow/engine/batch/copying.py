"""One copy of a batch: by one CopyObject, or in parts that a killed try leaves to the next one."""

from __future__ import annotations

from dataclasses import replace

from orbit_airflow.engine.batch.second_look import SecondLook
from orbit_airflow.engine.batch.work import Hands
from orbit_airflow.engine.copy import CopyFlow, copied_in_parts
from orbit_airflow.engine.copy_token import copy_hash
from orbit_airflow.engine.events import Notice, Reporter, Retrying, TransferEvent
from orbit_airflow.engine.model import CopyResult, ObjectInfo, ObjectRef
from orbit_airflow.engine.options import CopyOptions
from orbit_airflow.engine.token import state_key


def copy_of(hands: Hands, info: ObjectInfo, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> CopyResult:
    """Copy ``source``, which was just seen to be ``info``. As CopyFlow; without the events of single transfers.

    A copy in parts keeps its token beside the batch's until it has ended well: so many as there are keys under way (and
    keys that failed, whose parts another batch continues). The batch's cursor knows when a key is done, so a finished
    copy's token is forgotten at once.
    """
    call = replace(hands.call, reporter=without_transfers(hands.call.reporter))
    if not copied_in_parts(call.config, options, info):
        look = SecondLook(hands=hands, info=info, target=target, options=options)
        return CopyFlow(call, source, target, options, info=info, proves=look.proves).run()
    hands.untimed()
    result = CopyFlow(call, source, target, options, hands.tokens, info=info).run()
    forget_copy(hands, info, source, target, options)
    return result


def forget_copy(hands: Hands, info: ObjectInfo, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> None:
    """Drop the token of a copy that is there: a try may have been killed between the two."""
    if copied_in_parts(hands.call.config, options, info):
        hands.tokens.drop(state_key(copy_hash(source, target)))


def without_transfers(reporter: Reporter) -> Reporter:
    """A batch of a million copies is not a million transfers in the log."""

    def told(event: TransferEvent) -> None:
        if isinstance(event, Notice | Retrying):
            reporter(event)

    return told
