"""The endpoints of pingpp.md section 1.1 that Midas uses, over the books."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from midas.sandbox import charge_endpoints, refund_endpoints
from midas.sandbox.books import Books
from midas.sandbox.declines import DeclinePlan
from midas.sandbox.errors import ApiError, Json, invalid, not_found
from midas.sandbox.listing import Query, charge_filter, expands_app, list_json, page_of
from midas.sandbox.objects import refund_json
from midas.sandbox.records import Charge
from midas.sandbox.refund_endpoints import RefundPlan

Handler = Callable[..., Json]


class Api:
    """Answers requests that are already authenticated."""

    def __init__(
        self,
        books: Books,
        choose_plan: Callable[[Charge], RefundPlan],
        *,
        wx_reverse_after_s: float,
        refund_description_required: bool,
        strict: bool = False,
        declines: Sequence[DeclinePlan] = (),
    ) -> None:
        self._books = books
        self._choose_plan = choose_plan
        self._declines = declines
        self._wx_reverse_after_s = wx_reverse_after_s
        self._refund_description_required = refund_description_required
        self._strict = strict

    def handle(self, method: str, path: str, query: Query, body: bytes) -> tuple[int, Json]:
        """HTTP status and JSON object, an error envelope included."""
        try:
            for verb, pattern, name in _ROUTES:
                match = pattern.fullmatch(path)
                if match and verb == method:
                    handler: Handler = getattr(self, name)
                    request = _json_object(body) if verb == "POST" else {}
                    return 200, handler(query, request, *match.groups())
            raise not_found("路径", f"{method} {path}", "url")
        except ApiError as error:
            return error.status, error.envelope()

    def _create_charge(self, query: Query, request: Json) -> Json:
        expand = _expands_in_body(query, request)
        charge = charge_endpoints.create_charge(self._books, request, self._declines)
        return self._books.show_charge(charge, expand_app=expand)

    def _retrieve_charge(self, query: Query, _: Json, charge_id: str) -> Json:
        expand = expands_app(query)
        charge = charge_endpoints.find_charge(self._books, charge_id)
        return self._books.show_charge(charge, expand_app=expand)

    def _list_charges(self, query: Query, _: Json) -> Json:
        expand = expands_app(query)
        page, more = page_of(
            self._books.charges_oldest_first,
            query,
            find=lambda key: charge_endpoints.find_charge(self._books, key),
            wanted=charge_filter(query, self._books, strict=self._strict),
        )
        data = [self._books.show_charge(charge, expand_app=expand) for charge in page]
        return list_json("/v1/charges", data, more)

    def _reverse_charge(self, _: Query, __: Json, charge_id: str) -> Json:
        charge = charge_endpoints.find_charge(self._books, charge_id)
        charge_endpoints.reverse_charge(self._books, charge, self._wx_reverse_after_s)
        return self._books.show_charge(charge)

    def _create_refund(self, _: Query, request: Json, charge_id: str) -> Json:
        refund = refund_endpoints.create_refund(
            self._books,
            charge_endpoints.find_charge(self._books, charge_id),
            request,
            self._choose_plan,
            description_required=self._refund_description_required,
        )
        return refund_json(refund)

    def _list_refunds(self, query: Query, _: Json, charge_id: str) -> Json:
        charge = charge_endpoints.find_charge(self._books, charge_id)
        all_refunds = self._books.refunds_of(charge.id)
        page, more = page_of(
            all_refunds,
            query,
            find=lambda key: refund_endpoints.find_refund(self._books, charge, key),
        )
        data = [refund_json(refund) for refund in page]
        return list_json(f"/v1/charges/{charge.id}/refunds", data, more)

    def _retrieve_refund(self, _: Query, __: Json, charge_id: str, refund_id: str) -> Json:
        charge = charge_endpoints.find_charge(self._books, charge_id)
        refund = refund_endpoints.find_refund(self._books, charge, refund_id)
        return refund_json(refund_endpoints.look_again(self._books, refund))

    def _retrieve_event(self, _: Query, __: Json, event_id: str) -> Json:
        event = self._books.events.get(event_id)
        if event is None:
            raise not_found("event", event_id)
        return event


def _json_object(body: bytes) -> Json:
    try:
        request = json.loads(body.decode(), parse_constant=_no_constant) if body else {}
        # A lone surrogate passes the parser but can be neither stored nor answered.
        json.dumps(request, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise invalid("请求内容不是有效的 JSON") from None
    if request == []:
        return {}  # PHP's empty map, which its SDK sends for a request without parameters
    if not isinstance(request, dict):
        raise invalid("请求内容必须为 JSON 对象")
    return request


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _expands_in_body(query: Query, request: Json) -> bool:
    named = request.get("expand", [])
    wanted: Sequence[str] = named if isinstance(named, list) else [str(named)]
    return expands_app([*query, *(("expand[]", str(name)) for name in wanted)])


_ROUTES = [
    (verb, re.compile(pattern), name)
    for verb, pattern, name in (
        ("POST", "/v1/charges", "_create_charge"),
        ("GET", "/v1/charges", "_list_charges"),
        ("GET", "/v1/charges/([^/]+)", "_retrieve_charge"),
        ("POST", "/v1/charges/([^/]+)/reverse", "_reverse_charge"),
        ("POST", "/v1/charges/([^/]+)/refunds", "_create_refund"),
        ("GET", "/v1/charges/([^/]+)/refunds", "_list_refunds"),
        ("GET", "/v1/charges/([^/]+)/refunds/([^/]+)", "_retrieve_refund"),
        ("GET", "/v1/events/([^/]+)", "_retrieve_event"),
    )
]
