"""The ranking pipeline in Python and NumPy, over messages as protobuf parses them: the compiled path's oracle."""
