"""The sandbox: a local Ping++ look-alike with a ledger of the money that really moved.

It shares no code with the rest of Midas, so that neither can hide the other's mistake.
`midas.sandbox.ledger.Lookalike` is the engine without sockets; `midas.sandbox.app` serves it over
HTTP with authentication, signatures, faults on demand, control API and payment pages:

    from midas.sandbox.app import SandboxOptions, SandboxServer

    async with SandboxServer(SandboxOptions(merchant_public_key=my_public_pem)) as server:
        server.faults.add({"match": {"method": "POST"}, "action": {"kind": "lose_response"}})
        ...                                           # let Midas create a charge at server.url
        charge = server.lookalike.charges_of("ORDER001")[0]
        server.lookalike.pay(charge["id"])            # the payer confirms
        assert server.lookalike.ledger.paid("ORDER001") == 100
        assert server.requests.count("POST", "/v1/charges") == 1

Webhooks go to `webhook_urls`, signed and repeated as Ping++ does it; faults spoil them too:

    server.webhooks.urls = (gateway_url,)
    server.faults.add({"match": {"event": "charge.succeeded"}, "action": {"kind": "webhook_drop"}})
    server.lookalike.pay(charge["id"])
    server.clock.advance(5)                           # the first one is lost, the second is due
    await server.webhooks.log.until(Match(event_id=..., outcome="accepted"))

`midas.sandbox.faults` and `midas.sandbox.webhook_faults` list the faults, `midas.sandbox.forgery`
the forgeries. From another process the same things are under `/_sandbox/` (see
`midas.sandbox.control` and `midas.sandbox.webhook_control`).
"""
