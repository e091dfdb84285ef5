"""Floor 4: gRPC. Bytes in, bytes out; checks, deadlines, errors, health and draining.

Must live here: everything about the wire and the process. Must not: how candidates are
ordered (ranking) or signals are kept (signals). See docs/serving.md.
"""
