"""Each of Ping++'s codes by its own name, a second time: a slip in the table must not go unnoticed.

The codes are those of pingpp.md section 6. The lists here follow the words of the documentation and
the recorded answers, not the product.
"""

import pytest

from midas.psp.codes import MEANINGS, Meaning

NOTHING_WAS_DONE = (
    "charge_closed",
    "charge_request_invalid",
    "refund_refused",
    "refund_refused_msg",
    "refund_failed",
    "channel_request_error",
    "channel_parameter_error",
    "channel_auth_error",
    "channel_not_support_red_envelope",
    "channel_not_support_transfer",
    "request_param_error",
)
MAY_HAVE_BEEN_DONE = (
    "charge_unexpected_status",
    "charge_order_no_used",
    "refund_wait_operation",
    "refund_pending",
    "refund_unexpected_status",
    "refund_retry",
    "refund_manual_intervention",
    "refund_info_from_channel",
    "channel_request_info",
    "refund_not_found",
    "channel_connection_error",
    "channel_parse_error",
    "channel_sign_error",
    "channel_unexpected_error",
    "channel_response_code_fail",
    "channel_parameters_consistency_error",
    "channel_notify_id_error",
    "query_right_error",
    "transfer_wait_operation",
    "red_system_busy",
    "transfer_system_busy",
)


@pytest.mark.parametrize("code", NOTHING_WAS_DONE)
def test_a_code_that_proves_that_nothing_was_done(code: str) -> None:
    """Taken for unknown, an order would be blocked for no reason."""
    assert MEANINGS[code] is Meaning.NOT_DONE


@pytest.mark.parametrize("code", MAY_HAVE_BEEN_DONE)
def test_a_code_that_proves_nothing(code: str) -> None:
    """Taken for a failure, money would be lost or moved twice (I5)."""
    assert MEANINGS[code] is Meaning.UNKNOWN


def test_every_code_is_in_one_of_the_lists() -> None:
    """A new one has to be decided here, too."""
    assert sorted(MEANINGS) == sorted(NOTHING_WAS_DONE + MAY_HAVE_BEEN_DONE)
