"""The gRPC side. `server.py` binds it, `payment_service.py` answers, `interceptor.py` guards."""
