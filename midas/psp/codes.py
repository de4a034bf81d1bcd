"""Ping++'s error codes (pingpp.md section 6): which of them prove that nothing was done.

A code that is not here proves nothing with HTTP 402 (the channel was asked) and is an ordinary
refusal with HTTP 400 (it was not).
"""

from collections.abc import Mapping
from enum import StrEnum


class Meaning(StrEnum):
    """What a code proves about the call that it answers."""

    NOT_DONE = "NOT_DONE"
    UNKNOWN = "UNKNOWN"


_NOT_DONE = Meaning.NOT_DONE
_UNKNOWN = Meaning.UNKNOWN

MEANINGS: Mapping[str, Meaning] = {
    # The order is over: this call changed nothing about it.
    "charge_closed": _NOT_DONE,
    # The Order API made this charge. Ping++ refuses before it asks the channel (in real traffic).
    "charge_request_invalid": _NOT_DONE,
    # "Query later": Ping++ itself does not know.
    "charge_unexpected_status": _UNKNOWN,
    # The number is taken, so something may exist under it. After a re-post that is likely ours.
    "charge_order_no_used": _UNKNOWN,
    # The channel refused the refund.
    "refund_refused": _NOT_DONE,
    "refund_refused_msg": _NOT_DONE,
    "refund_failed": _NOT_DONE,
    # A refund exists and waits, for a person or for the channel.
    "refund_wait_operation": _UNKNOWN,
    "refund_pending": _UNKNOWN,
    "refund_unexpected_status": _UNKNOWN,
    # "Ask again": the effect of the first request is unknown.
    "refund_retry": _UNKNOWN,
    # The refund is to be paid offline. The channel may have tried, and a person has to look.
    "refund_manual_intervention": _UNKNOWN,
    # The channel's own words, for people.
    "refund_info_from_channel": _UNKNOWN,
    "channel_request_info": _UNKNOWN,
    # The channel does not show it yet, or never will.
    "refund_not_found": _UNKNOWN,
    # The channel refused the call, its parameters or the merchant.
    "channel_request_error": _NOT_DONE,
    "channel_parameter_error": _NOT_DONE,
    "channel_auth_error": _NOT_DONE,
    "channel_not_support_red_envelope": _NOT_DONE,
    "channel_not_support_transfer": _NOT_DONE,
    # The channel may have acted before the connection, the answer or its signature went wrong.
    "channel_connection_error": _UNKNOWN,
    "channel_parse_error": _UNKNOWN,
    "channel_sign_error": _UNKNOWN,
    "channel_unexpected_error": _UNKNOWN,
    "channel_response_code_fail": _UNKNOWN,
    # The request differs from something that the channel has already.
    "channel_parameters_consistency_error": _UNKNOWN,
    # These are about a notification or a query, not about the money that was asked for.
    "channel_notify_id_error": _UNKNOWN,
    "query_right_error": _UNKNOWN,
    # Codes of other products. The "busy" ones ask for a repetition with the same number.
    "transfer_wait_operation": _UNKNOWN,
    "red_system_busy": _UNKNOWN,
    "transfer_system_busy": _UNKNOWN,
    # A client library makes it about its own arguments.
    "request_param_error": _NOT_DONE,
}
