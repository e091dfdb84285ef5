"""Open-loop load: calls are sent when their time has come, whether or not earlier ones were answered.

Latency counts from the time a call was to be sent, not from when it was: a generator or a server that
stalls cannot hide what would have waited meanwhile ("coordinated omission"). The sender is a process of
its own, on a core of its own, and reports how late it was itself.
"""
