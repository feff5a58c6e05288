"""Request bytes in; accepted by the destination, retried, or counted as lost, out.

A chain of small senders with one method, `send(request)`, stands behind each queue:
divide (sizes) > account (ledger, counters, log) > switch (signals that are refused) > throttle > retry > throttle > push.
"""
