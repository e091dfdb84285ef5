"""The processes of `rankd serve`: who starts, watches and restarts whom. See docs/serving.md.

Nothing here imports grpc, protobuf or numpy: the supervisor stays small, and what it starts is
always a fresh program (exec), never a copy of itself.
"""
